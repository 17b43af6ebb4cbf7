"""Who gets the page: whoever has the token, at the address that was printed, and from that page alone."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

pytest.importorskip("uvicorn", reason="pip install 'vla-rl[cockpit]'")

import uvicorn
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from vla_rl.cockpit.stage import Picture
from vla_rl.cockpit.web import FILES, MOST, VIEWERS, Cockpit, encoded
from vla_rl.play.controls import RefusedError

TOKEN = "a-token-of-the-test"


class Still:
    """A stage with two lanes, which notes what it is asked for."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.rested = threading.Event()

    def about(self) -> dict[str, Any]:
        return {"title": "still", "lanes": 2}

    def look(self, lanes: Sequence[int], seen: Mapping[int, int], value: int) -> tuple[dict[str, Any], list[Picture]]:
        view = {"front": np.zeros((8, 8, 3), np.uint8)}
        shown = [Picture(lane, 1, "go", view) for lane in lanes if seen.get(lane) != 1]
        return {"live": True, "held": {"0": "me"} if ("take", "me", 0) in self.calls else {}}, shown

    def take(self, who: str, lane: int) -> None:
        self.calls.append(("take", who, lane))

    def keep(self, who: str) -> None:
        self.calls.append(("keep", who))

    def give(self, who: str) -> None:
        self.calls.append(("give", who))

    def act(self, who: str, asked: Mapping[str, Any]) -> str:
        if asked.get("do") == "break":
            raise RefusedError("not here")
        self.calls.append(("act", who, dict(asked)))
        return "done"

    def label(self, who: str, lane: int, success: bool) -> str:
        self.calls.append(("label", who, lane, success))
        return "so it ends"

    def news(self, after: int) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
        return [{"step": 1}][after:], []

    def rest(self) -> None:
        self.rested.set()

    def close(self) -> None:
        self.calls.append("close")


class Served:
    """A server of a still stage, in a thread."""

    def __init__(self) -> None:
        self.stage, self._calls = Still(), ThreadPoolExecutor(1)
        hosts: set[str] = set()
        app = Cockpit(self.stage, TOKEN, hosts, self._calls)
        settings = uvicorn.Config(app.app(), port=0, log_level="error", ws="websockets-sansio", ws_max_size=MOST)
        self._server = uvicorn.Server(settings)
        sockets = [socket.create_server(("127.0.0.1", 0))]
        self.port = sockets[0].getsockname()[1]
        app._hosts.add(self.host)
        self._thread = threading.Thread(target=self._server.run, args=[sockets])
        self._thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def get(self, path: str, **headers: str) -> tuple[int, str, Mapping[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", path, headers={"Host": self.host, **headers})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), dict(answer.getheaders())

    def visit(self, token: str = TOKEN, **settings: Any) -> Any:
        return connect(f"ws://{self.host}/socket?token={token}", **settings)

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._calls.shutdown()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    made = Served()
    yield made
    made.close()
    assert made.stage.calls[-1] == "close"


def test_the_page_and_its_files_are_served(served: Served) -> None:
    status, page, headers = served.get(f"/?token={TOKEN}")
    assert status == 200
    assert "<title>cockpit</title>" in page
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer"
    for name, kind in FILES.items():
        if name != "index.html":
            assert served.get(f"/{name}")[::2][0] == 200
            assert served.get(f"/{name}")[2]["content-type"] == kind
    for name in ("cockpit.css", "cockpit.js"):
        assert name in page
    assert "http" not in page.replace("http-equiv", "")  # nothing comes from the network


@pytest.mark.parametrize("query", ["", "?token=", "?token=wrong", f"?token={TOKEN}x", f"?TOKEN={TOKEN}"])
def test_nobody_gets_the_page_without_the_token(served: Served, query: str) -> None:
    status, said, _ = served.get(f"/{query}")
    assert status == 403
    assert "token" in said
    with pytest.raises(InvalidStatus):
        connect(f"ws://{served.host}/socket{query}").__enter__()


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1:1", "localhost", ""])
def test_a_name_of_somebody_elses_leads_nowhere(served: Served, host: str) -> None:
    assert served.get(f"/?token={TOKEN}", Host=host)[0] == 403
    assert served.get("/cockpit.js", Host=host)[0] == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1", "file://"])
def test_a_page_of_somebody_elses_gets_no_socket(served: Served, origin: str) -> None:
    with pytest.raises(InvalidStatus):
        served.visit(additional_headers={"Origin": origin}).__enter__()


@pytest.mark.parametrize(
    "path",
    ["/../web.py", "/..%2fweb.py", "/%2e%2e/web.py", "/index.html", "/page/cockpit.js", "//etc/passwd", "/socket"],
)
def test_no_other_file_is_served(served: Served, path: str) -> None:
    assert served.get(f"{path}?token={TOKEN}")[0] in (403, 404)


def said(talk: Any, kind: str) -> dict[str, Any]:
    """The next message of a kind."""
    while True:
        message = talk.recv(timeout=30)
        if isinstance(message, str) and (told := json.loads(message))["type"] == kind:
            return told


def test_a_viewer_is_shown_what_there_is_and_acts(served: Served) -> None:
    with served.visit() as talk:
        assert said(talk, "about")["title"] == "still"
        assert said(talk, "state")["held"] == {}
        picture = next(message for message in iter(lambda: talk.recv(timeout=30), None) if isinstance(message, bytes))
        length = int.from_bytes(picture[:4], "big")
        about = json.loads(picture[4 : 4 + length])
        assert (about["lane"], about["text"]) == (0, "go")
        assert picture[4 + length :][:8] == b"\x89PNG\r\n\x1a\n"
        talk.send(json.dumps({"do": "take", "lane": 0}))
        assert "who you are" in said(talk, "said")["text"]
        talk.send(json.dumps({"do": "here", "who": "me"}))
        talk.send(json.dumps({"do": "take", "lane": 0}))
        assert said(talk, "said")["text"] == "you have taken over"
        assert said(talk, "state")["held"] == {"0": "you"}
        talk.send(json.dumps({"do": "wait"}))
        assert said(talk, "said") == {"type": "said", "text": "done", "refused": False}
        talk.send(json.dumps({"do": "label", "lane": 1, "success": True}))
        assert said(talk, "said")["text"] == "so it ends"
        talk.send(json.dumps({"do": "break"}))
        assert said(talk, "said") == {"type": "said", "text": "not here", "refused": True}
        with served.visit() as other:
            other.send(json.dumps({"do": "here", "who": "you"}))
            assert said(other, "state")["held"] == {"0": "other"}
        served.stage.rested.clear()
    assert served.stage.rested.wait(30)  # nobody looks any more
    assert ("label", "me", 1, True) in served.stage.calls


@pytest.mark.parametrize(
    "text",
    ["", "no json", "[]", "5", '"x"', "[" * 9000, '{"do": "watch", "lane": 99}', '{"do": "watch", "lane": true}'],
)
def test_what_makes_no_sense_is_answered(served: Served, text: str) -> None:
    with served.visit() as talk:
        talk.send(text)
        assert said(talk, "said")["refused"]


def test_a_message_that_is_too_long_ends_the_talk(served: Served) -> None:
    with served.visit() as talk:
        talk.send("x" * (MOST + 1))
        with pytest.raises(ConnectionClosed):
            said(talk, "nothing")


def test_there_are_only_so_many_viewers(served: Served) -> None:
    with ExitStack() as visits:
        for _ in range(VIEWERS):
            visits.enter_context(served.visit())
        with pytest.raises(InvalidStatus), served.visit():
            pass


def test_small_pictures_lose_nothing_and_large_ones_are_small() -> None:
    rng = np.random.default_rng(0)
    assert encoded(rng.integers(0, 255, (96, 96, 3), np.uint8))[1] == "image/png"
    data, kind = encoded(rng.integers(0, 255, (640, 480, 3), np.uint8), largest=112)
    assert kind == "image/jpeg"
    assert len(data) < 20_000
