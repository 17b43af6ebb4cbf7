"""The page's server: one page, its three files, and a socket for each viewer. Nothing else is served.

Only whoever has the token gets the page or a socket; a request that names another host, or comes from a page of another
origin, gets nothing (so that no site that the browser also shows can reach this machine by a name of its own).
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import struct
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from vla_rl.cockpit.stage import Picture, Stage
from vla_rl.play.controls import RefusedError
from vla_rl.runtime.listening import same

T = TypeVar("T")
PAGE = Path(__file__).with_name("page")
FILES = {
    "index.html": "text/html; charset=utf-8",
    "cockpit.css": "text/css; charset=utf-8",
    "cockpit.js": "text/javascript; charset=utf-8",
}
"""All that is served, by name."""
MOST = 1 << 14
"""Bytes of a message of the page."""
VIEWERS = 16
"""At the same time."""
LOOKING, FLYING = 0.2, 0.06
"""Seconds between two pictures of the lane that a viewer looks at, and of one that they fly."""
SMALL = 112
"""Pixels of a lane's picture beside."""
LOSSLESS = 160
"""Pixels a side up to which pictures are sent without loss."""
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Cockpit:
    """A stage, and who looks at it. token: whoever has it may watch and act. hosts: what this machine is called here.

    calls: the one thread that calls the stage.
    """

    def __init__(self, stage: Stage, token: str, hosts: Collection[str], calls: ThreadPoolExecutor) -> None:
        self._stage, self._token, self._hosts, self._calls = stage, token, set(hosts), calls
        self._viewers = 0

    def app(self) -> Starlette:
        """As uvicorn takes it."""
        files = [Route(f"/{name}", self._file) for name in FILES if name != "index.html"]
        return Starlette(
            routes=[Route("/", self._page), *files, WebSocketRoute("/socket", self._socket)], lifespan=self._lasting
        )

    @contextlib.asynccontextmanager
    async def _lasting(self, app: Starlette) -> AsyncIterator[None]:
        yield
        await self._call(self._stage.close)

    def _refused(self, request: HTTPConnection, token: bool) -> str:
        """Why a request gets nothing; "" where it does."""
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if host not in self._hosts:
            return "this is not the address that the command printed"
        if origin is not None and origin not in {f"{scheme}://{host}" for scheme in ("http", "https")}:
            return "asked for by a page of somebody else"
        if token and not same(request.query_params.get("token", ""), self._token):
            return "open the whole address that the command printed, with its token"
        return ""

    async def _page(self, request: Request) -> Response:
        why = self._refused(request, token=True)
        return PlainTextResponse(why, 403, _HEADERS) if why else _file_of("index.html")

    async def _file(self, request: Request) -> Response:
        why = self._refused(request, token=False)
        return PlainTextResponse(why, 403, _HEADERS) if why else _file_of(request.url.path.removeprefix("/"))

    async def _socket(self, socket: WebSocket) -> None:
        if self._refused(socket, token=True) or self._viewers >= VIEWERS:
            await socket.close(1008)
            return
        await socket.accept()
        self._viewers += 1
        viewer = Viewer(socket, self._stage, self._call)
        try:
            await viewer.stay()
        finally:
            self._viewers -= 1
            if not self._viewers:
                await self._call(self._stage.rest)

    async def _call(self, work: Callable[..., T], *arguments: Any) -> T:
        """What the stage answers, whose calls are one thread's."""
        return await asyncio.get_running_loop().run_in_executor(self._calls, work, *arguments)


class Viewer:
    """One page: what it is shown, and what it asks for."""

    def __init__(self, socket: WebSocket, stage: Stage, call: Callable[..., Any]) -> None:
        self._socket, self._stage, self._call = socket, stage, call
        self._lane, self._lanes, self._beside = 0, 1, 0
        self._seen: dict[int, int] = {}
        self._small: dict[int, int] = {}
        self._lines, self._who, self._holds = 0, "", False
        self._told: dict[str, Any] = {}

    async def stay(self) -> None:
        """Until the page goes."""
        about = await self._call(self._stage.about)
        self._lanes = int(about["lanes"])
        await self._say({"type": "about", **about})
        showing = asyncio.create_task(self._show())
        hearing = asyncio.create_task(self._hear())
        try:
            done, _ = await asyncio.wait({showing, hearing}, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                with contextlib.suppress(WebSocketDisconnect, RuntimeError, OSError):
                    each.result()
        finally:
            for each in (showing, hearing):
                each.cancel()
            await asyncio.gather(showing, hearing, return_exceptions=True)

    async def _show(self) -> None:
        """Send what has changed, again and again."""
        turn = 0
        while True:
            told, sent = await self._call(self._look)
            if told != self._told:
                self._told = told
                await self._say({"type": "state", **told})
            for each in sent:
                await self._socket.send_bytes(each)
            if turn % 10 == 0:
                lines, warnings = await self._call(self._stage.news, self._lines)
                self._lines += len(lines)
                if lines or turn == 0:
                    await self._say({"type": "news", "lines": lines, "warnings": warnings})
            turn += 1
            await asyncio.sleep(FLYING if self._holds else LOOKING)

    def _look(self) -> tuple[dict[str, Any], list[bytes]]:
        """How all lanes are, the picture of the one that is looked at, and of one beside."""
        self._beside = (self._beside + 1) % max(self._lanes, 1)
        seen = {lane: version for lane, version in self._seen.items() if lane == self._lane}
        beside = self._beside if self._beside != self._lane else None
        wanted = [self._lane] if beside is None else [self._lane, beside]
        if beside is not None and beside in self._small:
            seen[beside] = self._small[beside]
        told, pictures = self._stage.look(wanted, seen, self._lane)
        if not told["live"]:
            self._seen, self._small = {}, {}
        held = told.get("held", {})
        self._holds = self._who != "" and self._who in held.values()
        told["held"] = {lane: "you" if who == self._who else "other" for lane, who in held.items()}
        told["lane"] = self._lane
        for picture in pictures:
            (self._seen if picture.lane == self._lane else self._small)[picture.lane] = picture.version
        return told, [packed(picture, small=picture.lane != self._lane) for picture in pictures]

    async def _hear(self) -> None:
        """Do what the page asks for."""
        while True:
            text = await self._socket.receive_text()
            try:
                said = await self._call(self._do, _asked(text))
            except RefusedError as error:
                await self._say({"type": "said", "text": str(error), "refused": True})
                continue
            if said:
                await self._say({"type": "said", "text": said, "refused": False})

    def _do(self, asked: dict[str, Any]) -> str:
        stage, what = self._stage, asked.get("do")
        if what == "here":
            self._who = self._who or str(asked.get("who", ""))[:64]
            if self._holds:
                stage.keep(self._who)
        elif what == "watch":
            self._lane = self._checked(asked.get("lane"))
            self._seen.pop(self._lane, None)
        elif not self._who:
            raise RefusedError("say who you are first")
        elif what == "take":
            self._lane = self._checked(asked.get("lane"))
            stage.take(self._who, self._lane)
            return "you have taken over"
        elif what == "give":
            stage.give(self._who)
            return "handed back"
        elif what == "label":
            return stage.label(self._who, self._checked(asked.get("lane")), asked.get("success") is True)
        else:
            return stage.act(self._who, asked)
        return ""

    def _checked(self, lane: Any) -> int:
        if isinstance(lane, bool) or not isinstance(lane, int) or not 0 <= lane < self._lanes:
            raise RefusedError(f"lanes go from 0 to {self._lanes - 1}, got {str(lane)[:40]!r}")
        return lane

    async def _say(self, told: dict[str, Any]) -> None:
        await self._socket.send_text(json.dumps(told))


def packed(picture: Picture, small: bool) -> bytes:
    """A picture as the page takes it: the length of a JSON object, the object, and the views that it tells of."""
    views, blobs = [], []
    for name, pixels in list(picture.views.items())[: 1 if small else None]:
        data, kind = encoded(pixels, SMALL if small else None)
        views.append({"name": name, "kind": kind, "size": len(data), "pointers": picture.pointers.get(name, [])})
        views[-1] |= {"width": pixels.shape[1], "height": pixels.shape[0]}
        blobs.append(data)
    about = {"lane": picture.lane, "version": picture.version, "small": small, "views": views}
    if not small:
        about |= {"text": picture.text, "told": picture.told, "marks": list(picture.marks)}
    head = json.dumps(about).encode()
    return struct.pack(">I", len(head)) + head + b"".join(blobs)


def encoded(pixels: np.ndarray, largest: int | None = None) -> tuple[bytes, str]:
    """uint8 [H, W, 3] as PNG where it is small, else as JPEG; no larger than `largest`."""
    image, buffer = Image.fromarray(pixels), io.BytesIO()
    if largest is not None:
        image.thumbnail((largest, largest), Image.Resampling.BOX)
    lossless = max(image.size) <= LOSSLESS and largest is None
    if lossless:
        image.save(buffer, "PNG", compress_level=1)
    else:
        image.save(buffer, "JPEG", quality=86)
    return buffer.getvalue(), "image/png" if lossless else "image/jpeg"


def _asked(text: str) -> dict[str, Any]:
    """What a message asks for. Raises RefusedError."""
    try:
        asked = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RefusedError("what the page said cannot be read") from error
    if not isinstance(asked, dict):
        raise RefusedError("what the page said is no object")
    return asked


def _file_of(name: str) -> Response:
    return Response((PAGE / name).read_bytes(), headers=_HEADERS, media_type=FILES[name])
