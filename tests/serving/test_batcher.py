"""Who is decided for together, and that what one client asks is never another's matter."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vla_rl.rollout.rows import Row
from vla_rl.serving import batcher
from vla_rl.serving.asked import Asked
from vla_rl.serving.batcher import Answer, Batcher, Client, RefusedError
from vla_rl.specs import IMAGES, STATE, TASK


class Echo:
    """Decides what the state says, in batches that it notes; waits for `go`; breaks for `bad` and at "break"."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.begun, self.go = threading.Semaphore(0), threading.Event()
        self.policy = SimpleNamespace(views=1, kept=None, trunk=self)

    def check_text(self, text: str, views: int, kept: Any) -> None:
        if text == "too long":
            raise ValueError("an instruction that is too long")

    def decide(self, rows: Sequence[Row], seen: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
        self.batches.append([float(each[STATE][0, 0]) for each in seen])
        self.begun.release()
        assert self.go.wait(30)
        for each in seen:
            if each[TASK] == ["bad"]:
                raise ValueError("a bad one")
            if each[TASK] == ["break"]:
                raise RuntimeError("broken")
        return [(np.float32(each[STATE][0]), np.float32(each[STATE][0] + 1)) for each in seen]


def asks(value: float, text: str = "go", begins: bool = False, side: int = 4) -> Asked:
    picture = np.zeros((1, side, side, 3), np.uint8)
    return Asked({IMAGES + "front": picture, STATE: np.array([[value]], np.float32), TASK: [text]}, begins)


def client(stack: int = 1) -> Client:
    return Client(Row(stack))


def batched(scenario: Callable[[Echo, Batcher], Awaitable[None]], most: int = 32) -> Echo:
    """What the actor was asked in a scenario."""
    echo = Echo()

    async def main() -> None:
        with ThreadPoolExecutor(1) as calls:
            made = Batcher(echo, most, calls)  # type: ignore[arg-type]
            work = asyncio.create_task(made.work())
            try:
                await scenario(echo, made)
            finally:
                echo.go.set()
                work.cancel()

    asyncio.run(main())
    return echo


async def begun(echo: Echo) -> None:
    """Wait until the actor has begun another batch."""
    assert await asyncio.to_thread(echo.begun.acquire, timeout=30)


def value(answer: Answer) -> list[list[float]]:
    return np.asarray(answer.actions).tolist()  # type: ignore[no-any-return]


async def ask_all(made: Batcher, requests: Sequence[Asked]) -> list[Any]:
    return await asyncio.gather(*(made.decide(client(), each) for each in requests), return_exceptions=True)


def test_who_comes_while_one_is_decided_is_decided_together_then() -> None:
    async def scenario(echo: Echo, made: Batcher) -> None:
        first = asyncio.create_task(made.decide(client(), asks(0)))
        await begun(echo)
        rest = asyncio.create_task(ask_all(made, [asks(number) for number in range(1, 6)]))
        await asyncio.sleep(0)
        echo.go.set()
        assert value(await first) == [[0], [1]]  # the whole chunk
        answers = await rest
        assert [value(each) for each in answers] == [[[number], [number + 1]] for number in range(1, 6)]
        assert {each.batch for each in answers} == {3, 2}

    assert batched(scenario, most=3).batches == [[0], [1, 2, 3], [4, 5]]


def test_pictures_of_another_size_are_another_batch() -> None:
    async def scenario(echo: Echo, made: Batcher) -> None:
        echo.go.set()
        sides = [4, 8, 4, 8, 4]
        answers = await ask_all(made, [asks(number, side=side) for number, side in enumerate(sides)])
        assert [value(each)[0] for each in answers] == [[number] for number in range(5)]

    assert sorted(batched(scenario).batches) == [[0, 2, 4], [1, 3]]


def test_a_batch_holds_no_more_bytes_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher, "MOST_BYTES", 2 * asks(0).size)

    async def scenario(echo: Echo, made: Batcher) -> None:
        echo.go.set()
        await ask_all(made, [asks(number) for number in range(5)])

    assert batched(scenario).batches == [[0, 1], [2, 3], [4]]


def test_only_who_asked_wrongly_is_refused() -> None:
    async def scenario(echo: Echo, made: Batcher) -> None:
        echo.go.set()
        texts = ["go", "too long", "go", "bad", "break", "go"]
        answers = await ask_all(made, [asks(number, text) for number, text in enumerate(texts)])
        for number in (0, 2, 5):
            assert value(answers[number])[0] == [number]
        assert isinstance(answers[1], RefusedError)
        assert isinstance(answers[3], RefusedError)
        assert isinstance(answers[4], RuntimeError)

    together, *alone = batched(scenario).batches
    assert together == [0, 2, 3, 4, 5], "a text that cannot be read does not come so far"
    assert alone == [[0], [2], [3], [4], [5]]


def test_who_has_gone_is_not_decided_for() -> None:
    async def scenario(echo: Echo, made: Batcher) -> None:
        first = asyncio.create_task(made.decide(client(), asks(0)))
        await begun(echo)
        gone, stays = (asyncio.create_task(made.decide(client(), asks(number))) for number in (1, 2))
        await asyncio.sleep(0)
        gone.cancel()
        first.cancel()
        assert made.waited() > 0
        echo.go.set()
        assert value(await stays)[0] == [2]
        assert made.waited() == 0

    assert batched(scenario).batches == [[0], [2]]


def test_sizes_stay_within_an_episode_and_may_change_with_the_next() -> None:
    async def scenario(echo: Echo, made: Batcher) -> None:
        echo.go.set()
        own = client(stack=2)
        await made.decide(own, asks(0))
        with pytest.raises(RefusedError, match="sizes stay"):
            await made.decide(own, asks(1, side=8))
        await made.decide(own, asks(2))
        await made.decide(own, asks(3, side=8, begins=True))

    assert batched(scenario).batches == [[0], [2], [3]]
