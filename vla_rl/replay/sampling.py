"""Demonstrations and one's own experience in one batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Unpack

import numpy as np

from vla_rl.replay.batch import Batch
from vla_rl.replay.buffer import ReplayBuffer
from vla_rl.replay.hindsight import Hindsight
from vla_rl.replay.reader import Wanted
from vla_rl.replay.samplers import NothingToSampleError, Priority


@dataclass(frozen=True)
class Own:
    """How one's own experience is drawn.

    success_share: of the rows, [0, 1], those that a reward followed, as long as there are any. by, correction: how the
    rest is drawn, see `ReplayBuffer.sample`. hindsight: gives rows of the rest other goals. since, recent_share: at
    least that share of the rest is drawn from rows from `since` on, all alike.
    """

    success_share: float = 0.0
    by: Priority = "uniform"
    correction: float = 0.0
    hindsight: Hindsight | None = None
    since: int = 0
    recent_share: float = 0.0

    def sample(
        self,
        buffer: ReplayBuffer,
        count: int,
        rng: np.random.Generator,
        **wanted: Unpack[Wanted],
    ) -> Batch:
        """`count` rows; those of successes come first. For the rest see `ReplayBuffer.sample`.

        Rows that may get other goals lead as far as `n_step` says, whatever `to_end` says of the others.
        """
        lucky = round(count * self.success_share)
        # Only where it is wanted: from the first question on, the buffer keeps count of its successes.
        if lucky and not buffer.can_sample(wanted.get("finished_only", False), "success"):
            lucky = 0
        parts = [buffer.sample(lucky, rng, by="success", **wanted)] if lucky else []
        if lucky < count:
            if self.hindsight:
                wanted = {**wanted, "to_end": 0.0}
            recent = round((count - lucky) * self.recent_share)
            later: Wanted = {**wanted, "since": self.since}
            rest = [buffer.sample(recent, rng, **later)] if recent else []
            if recent < count - lucky:
                others = count - lucky - recent
                rest.append(buffer.sample(others, rng, by=self.by, correction=self.correction, **wanted))
            parts += [self.hindsight(buffer, each, rng) for each in rest] if self.hindsight else rest
        return Batch.concatenate(parts, buffer.recycler)


def sample_mixed(
    online: ReplayBuffer,
    demos: ReplayBuffer,
    batch_size: int,
    demo_share: float,
    rng: np.random.Generator,
    *,
    own: Own | None = None,
    **wanted: Unpack[Wanted],
) -> Batch:
    """`round(batch_size * demo_share)` rows that were shown, then rows of `online`, whoever decided them.

    Those shown are of `demos`, and of `online` where a person took over there: all alike (HIL-SERL, arXiv 2410.21845).
    `batch.demo` tells of every row whether it was shown. While one buffer has nothing to sample yet, the other gives
    the whole batch. `index` counts within the buffer that a row came from.

    own: how the rows of `online` are drawn; uniformly unless it says otherwise. The other arguments are those of
        `ReplayBuffer.sample`.

    Raises:
        NothingToSampleError: neither buffer has a row to sample.
        ValueError: `demo_share` outside [0, 1], or `batch_size` < 1.
    """
    if not 0 <= demo_share <= 1:
        raise ValueError(f"demo_share must lie in [0, 1], got {demo_share}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    from_demos = round(batch_size * demo_share)
    shares = [(demos, from_demos), (online, batch_size - from_demos)]
    finished_only = wanted.get("finished_only", False)
    ready = [(buffer, count) for buffer, count in shares if count and buffer.can_sample(finished_only)]
    if not ready:
        # A side of share 0 stands in only when the other has nothing.
        ready = [(buffer, batch_size) for buffer, _ in shares if buffer.can_sample(finished_only)][:1]
    if not ready:
        raise NothingToSampleError(
            f"neither the demonstrations ({len(demos)} rows) nor replay ({len(online)} rows) "
            "hold a transition to sample"
        )
    if len(ready) == 1:
        ready = [(ready[0][0], batch_size)]
    dealt = [(buffer, count, own or Own() if buffer is online else Own()) for buffer, count in ready]
    taken = _taken_over(online, demos, from_demos, rng, finished_only)
    if taken:
        rest = from_demos - taken
        dealt = [(demos, rest, Own()), (online, taken, Own(by="demo")), (online, batch_size - from_demos, own or Own())]
    parts = [way.sample(buffer, count, rng, **wanted) for buffer, count, way in dealt if count]
    return Batch.concatenate(parts, online.recycler)


def _taken_over(
    online: ReplayBuffer, demos: ReplayBuffer, count: int, rng: np.random.Generator, finished_only: bool
) -> int:
    """How many of `count` rows that were shown are of `online`: as many as its share of all of them says, drawn."""
    if not count or not online.demonstrated or not online.can_sample(finished_only, "demo"):
        return 0
    if not demos.can_sample(finished_only):
        return count
    return int(rng.binomial(count, online.demonstrated / (online.demonstrated + demos.demonstrated)))
