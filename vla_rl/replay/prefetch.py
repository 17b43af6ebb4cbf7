"""Batches made by a thread while the learner is busy with the one before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from vla_rl.replay.batch import Batch


class Prefetcher:
    """Makes batches ahead of their use, one after another, so that they are those that would be made without it.

    make: makes the next batch. ahead: how many may wait; 0 makes each one when it is asked for.
    """

    def __init__(self, make: Callable[[], Batch], ahead: int = 2) -> None:
        self._make, self._ahead = make, ahead
        self._thread = ThreadPoolExecutor(1, "prefetch") if ahead else None

    def batches(self, count: int) -> Iterator[Batch]:
        """`count` batches. Replay may change again once the last one was asked for, or the iterator was closed.

        Raises:
            Whatever making a batch raises, at its turn.
        """
        if self._thread is None or count < 2:
            yield from (self._make() for _ in range(count))
            return
        waiting = deque(self._thread.submit(self._make) for _ in range(min(count, self._ahead)))
        try:
            for made in range(1, count + 1):
                batch = waiting.popleft().result()
                if made + len(waiting) < count:
                    waiting.append(self._thread.submit(self._make))
                yield batch
        finally:
            _abandon(waiting)

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._thread.shutdown()


def _abandon(waiting: deque[Future[Batch]]) -> None:
    """Leave no batch in the making."""
    for future in waiting:
        if not future.cancel():
            future.exception()
