"""Decisions for many clients at once: whoever asks while one batch is being decided is in the next."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from vla_rl.rollout.actor import Actor
from vla_rl.rollout.rows import Row, as_actions
from vla_rl.serving.asked import Asked

log = logging.getLogger(__name__)
GATHER = 0.005
"""Seconds that a batch waits for as many as were in the last one."""
MOST_BYTES = 1 << 26
"""Of the observations of a batch, unless one alone has more."""


class RefusedError(ValueError):
    """A decision that could not be made, and why, as the client is told."""


@dataclass(frozen=True)
class Answer:
    """actions: of a chunk, [H, ...], or a dict of such; H is 1 without chunks. batch: decided together with it."""

    actions: Any
    batch: int


@dataclass
class Client:
    """What is kept of a client from one decision to the next."""

    row: Row
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def look(self, asked: Asked) -> dict[str, Any]:
        """What the policy is to see. Raises ValueError where pictures change their size within an episode."""
        if asked.begins:
            self.row.begin()
            self.shapes = {}
        if self.shapes and self.shapes != asked.shapes:
            raise ValueError(f"within an episode sizes stay; got {asked.shapes} after {self.shapes}")
        self.shapes = asked.shapes
        return self.row.look(asked.observation)


@dataclass(frozen=True)
class _Request:
    client: Client
    asked: Asked
    answer: asyncio.Future[Answer]
    since: float


class Batcher:
    """Asks an actor for as many decisions at once as there are waiting.

    Args:
        actor: whose decisions they are.
        most: decisions of a batch.
        calls: the one thread that calls the actor.
    """

    def __init__(self, actor: Actor, most: int, calls: Executor) -> None:
        self._actor, self._most, self._calls = actor, most, calls
        self._waiting, self._deciding = deque[_Request](), list[_Request]()
        self._came = asyncio.Event()
        self._expected = 1

    async def decide(self, client: Client, asked: Asked) -> Answer:
        """One decision. Raises RefusedError where it cannot be made from what was asked."""
        loop = asyncio.get_running_loop()
        request = _Request(client, asked, loop.create_future(), loop.time())
        self._waiting.append(request)
        self._came.set()
        return await request.answer

    def waited(self) -> float:
        """Seconds that the oldest request has been waiting for its answer."""
        since = [request.since for request in (*self._deciding, *self._waiting) if not request.answer.done()]
        return asyncio.get_running_loop().time() - min(since) if since else 0.0

    async def work(self) -> None:
        """Decide, batch by batch, until cancelled."""
        while True:
            await self._gather()
            self._deciding = self._take()
            if not self._deciding:
                continue
            self._expected = len(self._deciding)
            outcomes = await asyncio.get_running_loop().run_in_executor(self._calls, self._decided, self._deciding)
            for request, outcome in zip(self._deciding, outcomes, strict=True):
                if request.answer.done():  # its client has gone
                    continue
                if isinstance(outcome, Exception):
                    request.answer.set_exception(outcome)
                else:
                    request.answer.set_result(outcome)
            self._deciding = []

    async def _gather(self) -> None:
        """Wait for somebody, and then a moment for as many as there were last time."""
        loop, until = asyncio.get_running_loop(), None
        while len(self._waiting) < self._expected:
            if self._waiting and until is None:
                until = loop.time() + GATHER
            self._came.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._came.wait()
            except TimeoutError:
                return

    def _take(self) -> list[_Request]:
        """Those who have waited longest, as many as go into a batch: of one size of pictures, and not of too many."""
        batch, rest, size = list[_Request](), list[_Request](), 0
        for request in self._waiting:
            fits = not batch or (
                len(batch) < self._most
                and size + request.asked.size <= MOST_BYTES
                and request.asked.shapes == batch[0].asked.shapes
            )
            if request.answer.done():
                continue
            if fits:
                batch.append(request)
                size += request.asked.size
            else:
                rest.append(request)
        self._waiting = deque(rest)
        return batch

    def _decided(self, batch: Sequence[_Request]) -> list[Answer | Exception]:
        """Of each request its answer, or why there is none; in the thread that calls the actor."""
        outcomes: dict[int, Answer | Exception] = {}
        seen: dict[int, dict[str, Any]] = {}
        for number, request in enumerate(batch):
            try:
                policy = self._actor.policy
                policy.trunk.check_text(request.asked.text, policy.views, policy.kept)
                seen[number] = request.client.look(request.asked)
            except ValueError as error:
                outcomes[number] = RefusedError(str(error))
        outcomes |= self._answers(batch, seen)
        return [outcomes[number] for number in range(len(batch))]

    def _answers(self, batch: Sequence[_Request], seen: Mapping[int, dict[str, Any]]) -> dict[int, Answer | Exception]:
        """Decide for those of a batch that are `seen`, together; or each alone, where one of them spoils it for all."""
        if not seen:
            return {}
        try:
            chunks = self._actor.decide([batch[number].client.row for number in seen], list(seen.values()))
            return {number: Answer(as_actions(chunk), len(seen)) for number, chunk in zip(seen, chunks, strict=True)}
        except Exception as error:
            if len(seen) > 1:
                each = [self._answers(batch, {number: shown}) for number, shown in seen.items()]
                return {number: answer for found in each for number, answer in found.items()}
            if not isinstance(error, ValueError):
                log.exception("a decision failed")
            return dict.fromkeys(seen, RefusedError(str(error)) if isinstance(error, ValueError) else error)
