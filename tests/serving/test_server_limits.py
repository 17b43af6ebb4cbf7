"""What the server does with a policy that hangs or fails, and with clients that ask for nothing or never listen."""

from __future__ import annotations

import asyncio
import http.client
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from vla_rl.runtime.listening import listener
from vla_rl.serving.batcher import Batcher
from vla_rl.serving.messages import packed, unpacked
from vla_rl.serving.server import Limits, Server
from vla_rl.specs import IMAGES, STATE, TASK


class Slow:
    """Decides zero once it may `go`, or where the text says so, `much` zeros; or it fails."""

    def __init__(self, much: int = 1) -> None:
        self.begun, self.go, self._much = threading.Event(), threading.Event(), much
        settings = SimpleNamespace(stack=1)
        self.policy = SimpleNamespace(
            cameras=("front",), state_dim=1, views=1, kept=None, trunk=self, settings=settings
        )

    def check_text(self, text: str, views: int, kept: Any) -> None:
        pass

    def decide(self, rows: Sequence[Any], seen: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
        self.begun.set()
        assert self.go.wait(30)
        if any(each[TASK] == ["fail"] for each in seen):
            raise RuntimeError("a secret of the server")
        return [(np.zeros(self._much if each[TASK] == ["much"] else 1, np.float32),) for each in seen]


def asks(text: str = "go") -> bytes:
    return packed({IMAGES + "front": np.zeros((4, 4, 3), np.uint8), STATE: np.zeros(1), TASK: text})


def serving(actor: Slow, limits: Limits, scenario: Callable[[int], Awaitable[None]]) -> None:
    """A scenario with a server on a port."""

    async def main() -> None:
        with listener("127.0.0.1", 0, "test") as socket, ThreadPoolExecutor(1) as calls:
            batcher = Batcher(actor, 4, calls)  # type: ignore[arg-type]
            server = Server(actor, batcher, limits, None, {"a": 1})  # type: ignore[arg-type]
            try:
                async with server.listening(socket):
                    await asyncio.wait_for(scenario(socket.getsockname()[1]), 60)
                    actor.go.set()
            finally:
                actor.go.set()

    asyncio.run(main())


def visit(port: int, **settings: Any) -> connect:
    return connect(f"ws://127.0.0.1:{port}", compression=None, **settings)


def health(port: int) -> tuple[int, str]:
    asking = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    asking.request("GET", "/healthz")
    answer = asking.getresponse()
    return answer.status, answer.read().decode()


async def until_room(port: int) -> None:
    """Until one client more is let in."""
    while True:
        with suppress(InvalidStatus):
            async with visit(port):
                return


def test_a_policy_that_hangs_is_told_of() -> None:
    actor = Slow()

    async def scenario(port: int) -> None:
        assert (await asyncio.to_thread(health, port))[0] == 200
        async with visit(port) as talk, visit(port) as other:
            await talk.recv()
            await talk.send(asks())
            assert await talk.recv() == "no decision within 0.2 s"
            with pytest.raises(ConnectionClosed):
                await talk.recv()
            assert talk.close_code == 1011
            await other.recv()
            await other.send(asks())
            assert "no decision" in str(await other.recv())
        actor.go.set()
        said: str | bytes = ""
        while isinstance(said, str):  # a busy machine may need more than one turn
            async with visit(port) as talk:
                await talk.recv()
                await talk.send(asks())
                said = await talk.recv()
        assert unpacked(said)["actions"].tolist() == [[0.0]]

    serving(actor, Limits(answer_s=0.2), scenario)


def test_the_health_page_says_that_nothing_is_answered() -> None:
    actor = Slow()

    async def scenario(port: int) -> None:
        async with visit(port) as talk:
            await talk.recv()
            await talk.send(asks())
            while (found := await asyncio.to_thread(health, port))[0] == 200:
                pass
            assert found[0] == 503
            assert found[1].startswith("no answer for")
            actor.go.set()

    limits = Limits(answer_s=30)
    server_waits = Batcher.waited
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Batcher, "waited", lambda self: server_waits(self) * 1e6)
        serving(actor, limits, scenario)


def test_a_fault_of_the_policy_costs_one_connection_and_tells_no_secret() -> None:
    actor = Slow()
    actor.go.set()

    async def scenario(port: int) -> None:
        async with visit(port) as talk, visit(port) as other:
            await talk.recv()
            await other.recv()
            await talk.send(asks("fail"))
            assert await talk.recv() == "the policy failed; the server's log says how"
            with pytest.raises(ConnectionClosed):
                await talk.recv()
            await other.send(asks())
            assert isinstance(await other.recv(), bytes)

    serving(actor, Limits(), scenario)


def test_who_asks_for_nothing_goes() -> None:
    async def scenario(port: int) -> None:
        async with visit(port) as talk:
            await talk.recv()
            with pytest.raises(ConnectionClosed):
                await talk.recv()
            assert talk.close_code == 1001

    serving(Slow(), Limits(idle_s=0.2), scenario)


def test_who_never_takes_an_answer_is_dropped() -> None:
    """An answer of more bytes than any buffer between holds."""
    actor = Slow(much=1 << 23)
    actor.go.set()

    async def scenario(port: int) -> None:
        deaf = await visit(port, max_size=None)
        await deaf.recv()
        deaf.transport.pause_reading()  # type: ignore[attr-defined]
        await deaf.send(asks("much"))
        async with visit(port) as talk:
            await talk.recv()
            await talk.send(asks())
            assert isinstance(await talk.recv(), bytes)
            await until_room(port)

    serving(actor, Limits(take_s=0.5, clients=2), scenario)
