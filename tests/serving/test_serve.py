"""The command itself: clients of a real process, honest and other ones, over real sockets."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.fakes import CAMERA, Line
from vla_rl import serve
from vla_rl.actions import Binned, Chunk
from vla_rl.config.policy import PolicySettings
from vla_rl.models.policy import Policy
from vla_rl.models.settings import Pretrained
from vla_rl.registry import ConfigError
from vla_rl.rollout.actor import Actor
from vla_rl.rollout.rows import Row, as_batch
from vla_rl.serving.messages import packed, unpacked
from vla_rl.specs import STATE, TASK

ROOT = Path(__file__).resolve().parents[2]
OPENPI = Path(os.environ.get("OPENPI_PYTHON", ROOT / ".venvs/openpi/bin/python"))
"""A Python that has openpi's published client."""
TOKEN = "a-token-of-the-test"
CLIENTS, MOST_CLIENTS = 12, 16
MOST_BYTES = 100_000


def saved(backbone: Path, folder: Path) -> Path:
    """A policy that sees two frames, remembers, and decides three steps at once; all that it sees counts for a lot."""
    settings = PolicySettings(Pretrained(source=str(backbone)), stack=2, remembers=True)
    policy = Policy.build(settings, Chunk(Binned(bins=15), 3).bind(Line().action_space), [CAMERA], 1, 0)
    with torch.no_grad():
        for weights in policy.head.parameters():
            weights.mul_(8)
    policy.save_pretrained(folder)
    return folder


@dataclass
class Served:
    """A process that serves a policy."""

    process: subprocess.Popen[str]
    folder: Path
    port: int

    @classmethod
    def start(cls, folder: Path, *flags: str) -> Served:
        command = [sys.executable, "-m", "vla_rl.cli", "serve", str(folder), "--port", "0", "device=cpu", *flags]
        environment = {**os.environ, serve.TOKEN: TOKEN}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said.startswith(f"serving {folder} on ws://127.0.0.1:"), said
        assert said.endswith(" with a token\n")
        return cls(process, folder, int(said.split()[3].rpartition(":")[2]))

    def connect_async(self) -> connect_async:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return connect_async(f"ws://127.0.0.1:{self.port}", additional_headers=headers, compression=None)

    def connect(self, scheme: str = "Bearer", **settings: Any) -> Any:
        headers = {"Authorization": f"{scheme} {TOKEN}"}
        given = {"additional_headers": headers, "compression": None, "max_size": None} | settings
        return connect(f"ws://127.0.0.1:{self.port}", **given)

    def health(self) -> tuple[int, str]:
        asks = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        asks.request("GET", "/healthz")
        answer = asks.getresponse()
        return answer.status, answer.read().decode()


@pytest.fixture(scope="module")
def served(random_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = saved(random_backbone, tmp_path_factory.mktemp("serve") / "policy")
    made = Served.start(folder, "--clients", str(MOST_CLIENTS), "--max-mb", str(MOST_BYTES / 2**20))
    yield made
    assert made.health() == (200, "OK\n"), "whatever came, it still serves"
    made.process.send_signal(signal.SIGTERM)
    assert made.process.wait(300) == 0


@pytest.fixture(scope="module")
def actor(served: Served) -> Actor:
    """The same policy, here."""
    return Actor(Policy.from_pretrained(served.folder))


def shown(seed: int) -> dict[str, Any]:
    """An observation; instructions of several lengths."""
    rng = np.random.default_rng(seed)
    words = ["reach", "the", "red", "cube", "and", "then", "the", "blue", "one"]
    return {
        CAMERA: rng.integers(0, 255, (8, 8, 3), dtype=np.uint8),
        STATE: rng.normal(size=1),
        TASK: " ".join(words[: 1 + seed % len(words)]),
    }


def alone(actor: Actor, observations: Sequence[dict[str, Any]]) -> list[np.ndarray]:
    """What one who is alone gets for the observations of an episode: chunks [H, 1]."""
    row, chunks = Row(actor.policy.settings.stack), []
    for observation in observations:
        batch, _ = as_batch(observation, actor.policy.cameras)
        (chunk,) = actor.decide([row], [row.look(batch)])
        chunks.append(np.stack(chunk))
    return chunks


def asked(talk: ClientConnection, observation: Mapping[str, Any]) -> dict[str, Any]:
    """What is answered. Raises ValueError where that is a text."""
    talk.send(packed(observation))
    said = talk.recv(timeout=60)
    if isinstance(said, str):
        raise ValueError(said)
    return unpacked(said)  # type: ignore[no-any-return]


def test_on_connecting_the_policy_is_told_of(served: Served) -> None:
    with served.connect() as talk:
        told = unpacked(talk.recv(timeout=30))  # type: ignore[arg-type]
    assert told["images"] == [CAMERA]
    assert (told["state"], told["action_horizon"], told["stack"], told["remembers"]) == (1, 3, 2, True)
    assert told["max_message_bytes"] == MOST_BYTES


def test_everybody_gets_what_they_would_get_alone(served: Served, actor: Actor) -> None:
    """Whoever else is decided for: every client has its own frames and memory, and the same tokens."""
    episodes = [[shown(100 * client + step) for step in range(4)] for client in range(CLIENTS)]

    async def together() -> tuple[list[list[np.ndarray]], set[int]]:
        talks, sizes = [await served.connect_async() for _ in episodes], set[int]()
        for talk in talks:
            await talk.recv()
        chunks: list[list[np.ndarray]] = [[] for _ in episodes]
        for step in range(4):
            for talk, episode in zip(talks, episodes, strict=True):
                await talk.send(packed(episode[step]))
            for talk, own in zip(talks, chunks, strict=True):
                answer = unpacked(await talk.recv())  # type: ignore[arg-type]
                own.append(answer["actions"])
                sizes.add(answer["server_timing"]["batch"])
        for talk in talks:
            await talk.close()
        return chunks, sizes

    chunks, sizes = asyncio.run(together())
    assert max(sizes) > 1, "some were decided together"
    for episode, own in zip(episodes, chunks, strict=True):
        for got, wanted in zip(own, alone(actor, episode), strict=True):
            assert got.shape == (3, 1)
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.skipif(not OPENPI.is_file(), reason="no openpi-client: bash scripts/install_suite.sh openpi")
def test_openpis_own_client_is_answered(served: Served, actor: Actor, tmp_path: Path) -> None:
    episode = [shown(seed) for seed in (5, 6, 7)]
    file, columns = tmp_path / "seen.npz", {"pictures": CAMERA, "states": STATE, "texts": TASK}
    np.savez(file, **{name: np.array([each[key] for each in episode]) for name, key in columns.items()})
    script = [str(OPENPI), str(ROOT / "tests/serving/real_openpi.py"), str(served.port), TOKEN, str(file)]
    ended = subprocess.run(script, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout)
    assert said["told"]["action_horizon"] == 3
    wanted = alone(actor, episode)
    np.testing.assert_array_equal(said["chunks"], wanted)
    np.testing.assert_array_equal(said["steps"], wanted[1])  # one by one
    assert "lacks 'observation.images.front'" in said["refused"]


def test_a_client_says_where_an_episode_begins(served: Served, actor: Actor) -> None:
    first, second = [[shown(seed) for seed in seeds] for seeds in ((1, 2, 3), (4, 5))]
    wanted = alone(actor, first) + alone(actor, second)
    assert not np.array_equal(alone(actor, first + second)[3:], wanted[3:]), "what came before would be seen"
    with served.connect() as talk:
        talk.recv()
        second[0] = second[0] | {"episode_start": True}
        got = [asked(talk, each)["actions"] for each in first + second]
    np.testing.assert_array_equal(got, wanted)
    with served.connect() as talk:  # and so does whoever connects
        talk.recv()
        np.testing.assert_array_equal(asked(talk, first[0])["actions"], wanted[0])


def test_an_error_is_told_and_the_episode_goes_on(served: Served, actor: Actor) -> None:
    episode = [shown(seed) for seed in (1, 2)]
    with served.connect() as talk:
        talk.recv()
        got = [asked(talk, episode[0])["actions"]]
        for wrong, said in (
            ({TASK: "nothing else"}, "lacks 'observation.images.front'"),
            (episode[0] | {STATE: np.zeros(7)}, r"observation.state: expected \[1\], got \[7\]"),
            (episode[0] | {TASK: "word " * 5000}, "instruction of 5|tokens|at most"),
            (episode[0] | {CAMERA: np.zeros((9, 8, 3), np.uint8)}, "sizes stay"),
        ):
            with pytest.raises(ValueError, match=said):
                asked(talk, wrong)
        talk.send("a text")
        assert "as bytes" in str(talk.recv())
        got.append(asked(talk, episode[1])["actions"])
    np.testing.assert_array_equal(got, alone(actor, episode))


async def offends(served: Served, how: str) -> None:
    """Do what no honest client does, and go."""
    if how in ("half a handshake", "no http"):
        _, writes = await asyncio.open_connection("127.0.0.1", served.port)
        writes.write(b"GET / HTTP/1.1\r\nHost: x\r\n" if how == "half a handshake" else os.urandom(10_000))
        writes.close()
        return
    async with served.connect_async() as talk:
        await talk.recv()
        if how == "garbage":
            for seed in range(20):
                await talk.send(np.random.default_rng(seed).bytes(1000))
                assert isinstance(await talk.recv(), str)
        elif how == "too large":
            await talk.send(packed({CAMERA: np.zeros((4 * MOST_BYTES,), np.uint8)}))
            with pytest.raises(ConnectionClosed):
                await talk.recv()
            assert talk.close_code == 1009
        elif how == "half a message":
            talk.transport.write(b"\x82\xff" + struct.pack(">Q", MOST_BYTES // 2) + bytes(1000))  # type: ignore[attr-defined]
            talk.transport.abort()
        elif how == "gone before the answer":
            await talk.send(packed(shown(0)))
            talk.transport.abort()
        elif how == "many questions, no ears":
            for _ in range(50):
                talk.transport.write(framed(packed(shown(0))))  # type: ignore[attr-defined]
            talk.transport.abort()
        else:
            raise AssertionError(how)


def framed(data: bytes) -> bytes:
    """A message as a client's frame, whose mask changes nothing."""
    return b"\x82\xff" + struct.pack(">Q", len(data)) + bytes(4) + data


OFFENCES = (
    "half a handshake",
    "no http",
    "garbage",
    "too large",
    "half a message",
    "gone before the answer",
    "many questions, no ears",
)


def test_what_one_client_does_is_no_other_ones_matter(served: Served, actor: Actor) -> None:
    episode = [shown(seed) for seed in range(len(OFFENCES) + 1)]
    with served.connect() as talk:
        talk.recv()
        got = [asked(talk, episode[0])["actions"]]
        for how, observation in zip(OFFENCES, episode[1:], strict=True):
            asyncio.run(offends(served, how))
            got.append(asked(talk, observation)["actions"])
    np.testing.assert_array_equal(got, alone(actor, episode))


def test_nobody_comes_in_without_the_token(served: Served) -> None:
    for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Authorization": "Bearer "}):
        refused = status(served, additional_headers=header)
        assert refused.status_code == 401
        assert TOKEN not in refused.body.decode()
    with served.connect("Api-Key") as talk:  # as openpi's client says it
        talk.recv()
    assert served.health() == (200, "OK\n")


def status(served: Served, **settings: Any) -> Any:
    """The answer to a client that is not let in."""
    with pytest.raises(InvalidStatus) as refused, served.connect(**settings):
        pass
    return refused.value.response


def test_no_page_of_a_browser_comes_in(served: Served) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Origin": "http://evil.example"}
    assert status(served, additional_headers=headers).status_code == 403


def test_no_more_come_in_than_may(served: Served) -> None:
    with ExitStack() as stay, pytest.raises(InvalidStatus) as refused:
        crowd(served, stay)
    assert refused.value.response.status_code == 503


def crowd(served: Served, stay: ExitStack) -> None:
    """One client more than may be there."""
    for _ in range(MOST_CLIENTS + 1):
        stay.enter_context(served.connect()).recv()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "robot.example"])
def test_other_machines_need_a_token(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(serve.TOKEN, raising=False)
    with pytest.raises(ConfigError, match="set VLA_RL_TOKEN"):
        serve.serve("outputs/none", host=host)
    monkeypatch.setenv(serve.TOKEN, "short")
    with pytest.raises(ConfigError, match="at least 16 characters"):
        serve.serve("outputs/none", host=host)


@pytest.mark.parametrize("limit", ["batch", "clients", "timeout", "megabytes"])
def test_limits_are_more_than_nothing(limit: str) -> None:
    with pytest.raises(ConfigError, match="more than 0"):
        serve.serve("outputs/none", **{limit: 0})  # type: ignore[arg-type]


def test_a_port_that_is_taken_is_told_before_anything_is_loaded() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(OSError, match="serve: cannot listen on"),
    ):
        serve.serve("outputs/none", port=taken.getsockname()[1])


def test_three_lines_act_without_trainer_critic_or_optimiser(served: Served) -> None:
    code = f"""
import sys
import numpy as np
seen = {{"{CAMERA}": np.zeros((8, 8, 3), np.uint8), "{STATE}": np.zeros(1, np.float32), "task": "reach"}}

from vla_rl import Actor, Policy
actor = Actor(Policy.from_pretrained({str(served.folder)!r}))
action = actor.act(seen)

assert action.shape == (1,) and actor.scorer is None
others = {{"vla_rl.train", "vla_rl.train_state", "vla_rl.build", "vla_rl.algorithms.critic", "sims"}}
found = others & sys.modules.keys()
assert not found, found
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
