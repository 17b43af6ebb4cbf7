"""The server: openpi's websocket protocol for a policy. A connection is a client, and a client is an episode at a time.

On connecting, the server tells of the policy. Each message then is an observation, and gets one answer: the actions of
a chunk, or a text that says why there are none. What a client sends, or leaves out, costs no other client anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from socket import socket as Socket
from typing import Any

from websockets.asyncio.server import Request, Response, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from vla_rl.rollout.actor import Actor
from vla_rl.rollout.rows import Row
from vla_rl.runtime.listening import same
from vla_rl.serving import asked
from vla_rl.serving.batcher import Batcher, Client
from vla_rl.serving.messages import packed
from vla_rl.specs import readable

log = logging.getLogger(__name__)
HEALTH = "/healthz"
SCHEMES = ("bearer", "api-key")
"""How a token may be told; openpi's client says the second."""
_GOING_AWAY, _POLICY, _FAULT = 1001, 1008, 1011


@dataclass(frozen=True)
class Limits:
    """Of what clients may ask.

    clients: at the same time. message_bytes: of an observation. answer_s: seconds that a decision may take, its wait
    included. take_s: seconds that a client has to take an answer. idle_s: seconds that it may ask for nothing. alive_s:
    seconds between two pings, and that it has to answer one.
    """

    clients: int = 64
    message_bytes: int = 8 << 20
    answer_s: float = 30.0
    take_s: float = 30.0
    idle_s: float = 3600.0
    alive_s: float = 20.0


class Server:
    """Serves an actor's decisions.

    Args:
        actor: decides; its batcher calls it from one thread.
        batcher: asks it.
        token: whoever has it may connect; None for everybody.
    """

    def __init__(self, actor: Actor, batcher: Batcher, limits: Limits, token: str | None, about: Mapping[str, Any]):
        self._policy, self._batcher, self._limits = actor.policy, batcher, limits
        self._token, self._about = token, packed(dict(about))
        self._clients = 0

    @contextlib.asynccontextmanager
    async def listening(self, listener: Socket) -> AsyncIterator[None]:
        """Serve whoever comes to `listener`, until left."""
        limits, quiet = self._limits, logging.getLogger(f"{__name__}.sockets")
        quiet.setLevel(logging.CRITICAL)  # what strangers send fills no log
        settings: dict[str, Any] = {
            "compression": None,  # as openpi's client has it; and a message is as large as it looks
            "max_size": limits.message_bytes,
            "max_queue": 1,  # one request, one answer
            "open_timeout": 10,
            "ping_interval": limits.alive_s,
            "ping_timeout": limits.alive_s,
            "close_timeout": 2,
            "server_header": None,
            "origins": [None],  # a page in somebody's browser says where it is from; robots do not
            "process_request": self._greet,
            "logger": quiet,
        }
        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(self._batcher.work())
            async with serve(self._stay, sock=listener, **settings):
                yield
            work.cancel()

    def _greet(self, connection: ServerConnection, request: Request) -> Response | None:
        """The health page; a refusal; or None, and the connection is made."""
        ok, refused, busy = http.HTTPStatus.OK, http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.SERVICE_UNAVAILABLE
        if request.path.partition("?")[0] == HEALTH:
            waited = self._batcher.waited()
            if waited > self._limits.answer_s:
                return connection.respond(busy, f"no answer for {waited:.0f} s\n")
            return connection.respond(ok, "OK\n")
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if self._token is not None and not (scheme.lower() in SCHEMES and same(given.strip(), self._token)):
            return connection.respond(refused, "say the server's token: Authorization: Bearer ...\n")
        if self._clients >= self._limits.clients:
            return connection.respond(busy, f"{self._clients} clients are here already\n")
        return None

    async def _stay(self, socket: ServerConnection) -> None:
        """Answer a client until it goes, or must go."""
        if self._clients >= self._limits.clients:  # several may have been greeted at once
            await socket.close(_POLICY, "too many clients")
            return
        self._clients += 1
        try:
            client = Client(Row(self._policy.settings.stack))
            await self._say(socket, self._about)
            while await self._answered(socket, client):
                pass
        except ConnectionClosed:
            pass  # whoever goes, goes
        finally:
            self._clients -= 1

    async def _answered(self, socket: ServerConnection, client: Client) -> bool:
        """Whether a client's next request was answered, so that it may ask on."""
        try:
            async with asyncio.timeout(self._limits.idle_s):
                data = await socket.recv()
        except TimeoutError:
            await socket.close(_GOING_AWAY, f"nothing was asked for {self._limits.idle_s:g} s")
            return False
        begun = asyncio.get_running_loop().time()
        try:
            request = asked.read(data, self._policy.cameras, self._policy.state_dim)
            async with asyncio.timeout(self._limits.answer_s):
                answer = await self._batcher.decide(client, request)
        except TimeoutError:
            await self._leave(socket, f"no decision within {self._limits.answer_s:g} s")
            return False
        except ValueError as error:  # a RefusedError, too
            await self._say(socket, readable(str(error)))
            return True
        except Exception:  # the batcher has logged it
            await self._leave(socket, "the policy failed; the server's log says how")
            return False
        took = asyncio.get_running_loop().time() - begun
        timing = {"infer_ms": took * 1000, "batch": answer.batch}
        await self._say(socket, packed({"actions": answer.actions, "server_timing": timing}))
        return True

    async def _leave(self, socket: ServerConnection, why: str) -> None:
        """Tell a client why it gets no answer any more, and close."""
        await self._say(socket, why)
        await socket.close(_FAULT, why)

    async def _say(self, socket: ServerConnection, said: bytes | str) -> None:
        """Send; a client that does not take it is dropped."""
        try:
            async with asyncio.timeout(self._limits.take_s):
                await socket.send(said)
        except TimeoutError:
            socket.transport.abort()
            await socket.wait_closed()
