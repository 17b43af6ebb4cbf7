"""What a training keeps for those who look on, and for a person who takes over: a `Pilot` behind a socket.

The page's server is another process of the same user. It asks; a thread answers from what the loop has left here, and
nothing is copied or worked out unless somebody asks for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socketserver
import tempfile
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vla_rl.actions import allowed, check_tokens
from vla_rl.algorithms.algorithm import Decision
from vla_rl.cockpit import wire
from vla_rl.cockpit.holds import Holds
from vla_rl.envs import SUCCESS as SUCCESS_WORDS
from vla_rl.envs import spoilt, succeeded
from vla_rl.envs.vector import Steps
from vla_rl.models.pointers import SLOTS
from vla_rl.play.controls import RefusedError
from vla_rl.rollout.pilot import FAILURE, SUCCESS, Turn, decided
from vla_rl.specs import IMAGES, TASK, ActionSpace

PATIENCE = 0.05
"""Seconds that a turn waits for a person where nothing else could go on."""
EVERY = 0.2
"""Seconds between two looks at what a decision is worth."""
REMEMBERED = 400
"""Values of Q that are kept of a lane."""

Worth = Callable[[Mapping[str, Any], Decision, int], float]
"""What a row of a decision is worth, given the observation that it was taken at."""


class Desk:
    """Who sits at which lane of a training, and what lanes have shown.

    lanes: how many there are. tokens: the action space of their decisions. tasks: the task of each. cameras: the keys
    of the pictures, in the order of the policy's views, of `stack` frames each. worth: tells Q; None where nothing
    does.
    """

    def __init__(
        self,
        lanes: int,
        tokens: ActionSpace,
        tasks: Sequence[str] = (),
        cameras: Sequence[str] = (),
        stack: int = 1,
        worth: Worth | None = None,
        holds: Holds | None = None,
    ) -> None:
        self._tokens, self._tasks, self._cameras, self._stack = tokens, list(tasks), list(cameras), stack
        self._worth, self._holds = worth, Holds() if holds is None else holds
        self._changed = threading.Condition()
        self._watching = 0
        self._seen: dict[int, tuple[slice, Mapping[str, Any], Decision]] = {}
        self._step, self._episode, self._version = (np.zeros(lanes, np.int64) for _ in range(3))
        self._moved, self._judged = np.ones(lanes, bool), np.zeros(lanes, bool)
        self._reward, self._taken = np.zeros(lanes), np.zeros(lanes, np.int64)
        self._ended = [""] * lanes
        self._verdicts: dict[int, tuple[int, np.ndarray | None]] = {}
        self._values: dict[int, deque[tuple[int, int, float]]] = {}
        self._asked: dict[int, float] = {}
        self._checks = False

    # For the loop ---------------------------------------------------------------------------------

    def turn(self, lanes: slice, observation: Mapping[str, Any], final: np.ndarray, decision: Decision) -> Turn:
        """See `Pilot`."""
        if not self._watching:
            return Turn.of(decision)
        turn = Turn.of(decision)
        with self._changed:
            self._seen[lanes.start] = (lanes, observation, decision)
            self._version[lanes] += self._moved[lanes]
            self._moved[lanes] = False
            self._value(lanes, observation, decision)
            self._holds.expire()
            held = [row for row, _ in self._holds.within(lanes)]
            if held and len(held) == len(final) and not final.any() and not self._anything(lanes):
                self._changed.wait(PATIENCE)
            return self._decided(turn, lanes, final) if len(self._holds) or self._verdicts else turn

    def saw(self, lanes: slice, steps: Steps, acted: np.ndarray, final: np.ndarray) -> None:
        """See `Pilot`."""
        if not self._watching:
            return
        ended = (steps.terminated | steps.truncated) & ~final & acted
        with self._changed:
            begins = final & acted
            self._moved[lanes] |= acted
            self._episode[lanes] += begins
            self._step[lanes] = np.where(begins, 0, self._step[lanes] + (acted & ~final))
            self._reward[lanes] = np.where(begins, 0.0, self._reward[lanes] + np.where(acted, steps.reward, 0.0))
            self._taken[lanes] = np.where(begins, 0, self._taken[lanes])
            for row in np.flatnonzero(begins | ended).tolist():
                self._ended[lanes.start + row] = _ending(steps.infos[row]) if ended[row] else ""
            if not self._checks:
                own = [info for info, judged in zip(steps.infos, self._judged[lanes], strict=True) if not judged]
                self._checks = any(word in info for info in own for word in SUCCESS_WORDS)

    def _anything(self, lanes: slice) -> bool:
        """Whether something is to be done for the lanes of a group that are held."""
        waiting = any(hold.waiting for _, hold in self._holds.within(lanes))
        return waiting or any(lanes.start <= lane < lanes.stop for lane in self._verdicts)

    def _decided(self, turn: Turn, lanes: slice, final: np.ndarray) -> Turn:
        """The turn as people have it who have taken over lanes, or judge them."""
        said: dict[int, np.ndarray] = {}
        rests, verdict = turn.rests.copy(), turn.verdict.copy()
        for row, hold in self._holds.within(lanes):
            if final[row]:
                continue
            if hold.waiting:
                said[row] = hold.waiting.popleft()
            elif lanes.start + row in self._verdicts:
                still = self._verdicts[lanes.start + row][1]
                said |= {} if still is None else {row: still}
            else:
                rests[row] = True
        for lane in [lane for lane in self._verdicts if lanes.start <= lane < lanes.stop]:
            row = lane - lanes.start
            told, _ = self._verdicts.pop(lane)
            if not final[row]:
                verdict[row] = told
        shown = turn.shown.copy()
        shown[list(said)] = True
        self._taken[lanes] += shown
        self._judged[lanes] = verdict != 0
        return replace(turn, decision=decided(turn.decision, said), shown=shown, rests=rests, verdict=verdict)

    def _value(self, lanes: slice, observation: Mapping[str, Any], decision: Decision) -> None:
        """Work out what the decision is worth in the lanes that somebody looks at, now and then."""
        now, worth = time.monotonic(), self._worth
        if worth is None:
            return
        for lane, last in self._asked.items():
            if lanes.start <= lane < lanes.stop and now - last >= EVERY:
                self._asked[lane] = now
                q = worth(observation, decision, lane - lanes.start)
                kept = self._values.setdefault(lane, deque(maxlen=REMEMBERED))
                place = (int(self._episode[lane]), int(self._step[lane]), q)
                if not kept or kept[-1][:2] != place[:2]:
                    kept.append(place)

    # For the page's server ------------------------------------------------------------------------

    def joined(self) -> None:
        """Somebody begins to look on."""
        with self._changed:
            self._watching += 1

    def left(self) -> None:
        """Somebody looks on no more."""
        with self._changed:
            self._watching -= 1
            if not self._watching:
                self._holds.clear()
                self._verdicts = {}
                self._seen, self._asked, self._values = {}, {}, {}
                self._ended = [""] * len(self._step)
                for counts in (self._step, self._reward, self._taken):
                    counts[:] = 0  # whoever looks next counts from then on

    def answer(self, asked: Mapping[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        """What is asked for: about, look, take, keep, give, act or label.

        Raises:
            RefusedError: it cannot be done now.
        """
        with self._changed:
            what = asked.get("ask")
            if what == "look":
                return self._look(asked)
            who = str(asked.get("who", ""))[:64]
            if what == "take":
                self._holds.take(self._lane(asked), who)
            elif what == "keep":
                self._holds.keep(who)
            elif what == "give":
                self._holds.give(who)
            elif what == "act":
                self._holds.act(who, self._checked(asked.get("tokens")), bool(asked.get("newest")))
            elif what == "label":
                self._label(asked)
            elif what == "about":
                about = {"lanes": len(self._step), "tasks": self._tasks, "cameras": self._cameras}
                return about | {"tells_q": self._worth is not None}, []
            else:
                raise RefusedError(f"nobody knows how to {str(what)[:40]!r}")
            self._changed.notify_all()
            return {}, []

    def _lane(self, asked: Mapping[str, Any]) -> int:
        lane = asked.get("lane")
        if not isinstance(lane, int) or not 0 <= lane < len(self._step):
            raise RefusedError(f"lanes go from 0 to {len(self._step) - 1}, got {lane!r}")
        return lane

    def _checked(self, tokens: Any) -> np.ndarray:
        """Tokens that the action space knows."""
        try:
            found = check_tokens(tokens, self._tokens.slots)
        except (ValueError, TypeError) as error:
            raise RefusedError(str(error)) from error
        if not allowed(self._tokens, found):
            raise RefusedError(f"{found.tolist()}: no decision of this action space")
        return found

    def _label(self, asked: Mapping[str, Any]) -> None:
        lane, still = self._lane(asked), asked.get("tokens")
        if self._checks:
            raise RefusedError("this environment itself tells whether an episode succeeds")
        hold = self._holds.of(lane)
        if hold is not None and hold.who != str(asked.get("who", ""))[:64]:
            raise RefusedError(f"lane {lane} is taken over by somebody else")
        told = SUCCESS if asked.get("success") is True else FAILURE
        self._verdicts[lane] = (told, None if still is None else self._checked(still))

    def _look(self, asked: Mapping[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        """How all lanes are, and pictures of some, where they have changed since `seen`."""
        lanes, seen = asked.get("lanes") or [], asked.get("seen") or {}
        self._asked = {lane: self._asked.get(lane, 0.0) for lane in asked.get("value") or [] if isinstance(lane, int)}
        self._values = {lane: kept for lane, kept in self._values.items() if lane in self._asked}
        blobs: list[bytes] = []
        pictures: list[dict[str, Any]] = []
        for group, observation, decision in self._seen.values():
            for lane in lanes:
                if group.start <= lane < group.stop and seen.get(str(lane)) != int(self._version[lane]):
                    pictures += self._picture(lane, lane - group.start, observation, decision, blobs)
        held = {str(lane): hold.who for lane in range(len(self._step)) if (hold := self._holds.of(lane))}
        told: dict[str, Any] = {
            "version": self._version.tolist(),
            "step": self._step.tolist(),
            "episode": self._episode.tolist(),
            "reward": self._reward.tolist(),
            "taken": self._taken.tolist(),
            "ended": self._ended,
            "held": held,
            "labels": not self._checks,
            "values": {str(lane): list(kept) for lane, kept in self._values.items()},
            "pictures": pictures,
        }
        return told, blobs

    def _picture(
        self, lane: int, row: int, observation: Mapping[str, Any], decision: Decision, blobs: list[bytes]
    ) -> list[dict[str, Any]]:
        """What a lane shows now, its pixels among `blobs`, and what the policy makes of it."""
        about: dict[str, Any] = {"lane": lane, "text": str(observation[TASK][row]), "cameras": []}
        about["tokens"] = decision.tokens[row].tolist()
        for number, key in enumerate(key for key in observation if key.startswith(IMAGES)):
            pixels = np.ascontiguousarray(observation[key][row])
            view = (self._cameras.index(key) + 1 if key in self._cameras else number + 1) * self._stack - 1
            camera = {
                "name": key.removeprefix(IMAGES),
                "shape": list(pixels.shape),
                "pointers": _pointers(decision, row, view),
            }
            about["cameras"].append(camera)
            blobs.append(pixels.tobytes())
        return [about]


def _pointers(decision: Decision, row: int, view: int) -> list[list[float]]:
    """Where the pointers of a view see what is named: x and y as shares of the picture, and how sure they are."""
    places, sure = decision.features.get("places"), decision.features.get("confidence")
    if places is None or sure is None or (view + 1) * SLOTS > places.shape[1]:
        return []
    own = slice(view * SLOTS, (view + 1) * SLOTS)
    shares = (places[row, own].astype(float) + 1) / 2
    return [
        [round(float(x), 4), round(float(y), 4), round(float(c), 3)]
        for (x, y), c in zip(shares, sure[row, own], strict=True)
    ]


def _ending(info: Mapping[str, Any]) -> str:
    """How an episode has ended, in a word."""
    return "spoilt" if spoilt(info) else "success" if succeeded(info) else "no success"


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, address: str, desk: Desk) -> None:
        self.desk = desk
        super().__init__(address, _Handler)


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        """Answer one server of a page until it goes."""
        desk = self.server.desk
        desk.joined()
        try:
            with contextlib.suppress(wire.WireError):
                while True:
                    asked, _ = wire.read(self.rfile, wire.MOST_ASKED)
                    try:
                        told, blobs = desk.answer(asked)
                    except RefusedError as error:
                        told, blobs = {"refused": str(error)}, []
                    wire.write(self.wfile, told, blobs)
        finally:
            desk.left()


class Attached:
    """A desk behind a socket, in a folder that only this user reads; the run's folder says where."""

    def __init__(self, folder: Path, desk: Desk) -> None:
        self.desk = desk
        self._place, self._said = Path(tempfile.mkdtemp(prefix="vla_rl_cockpit_")), folder / wire.ADDRESS
        self._server: _Server | None = None
        try:
            self._server = _Server(str(self._place / "socket"), desk)
            self._said.unlink(missing_ok=True)
            draft = os.open(self._said, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(draft, "w", encoding="utf-8") as file:
                json.dump({"socket": str(self._place / "socket"), "process": os.getpid()}, file)
        except OSError as error:
            warnings.warn(f"no cockpit can watch this run: {error}", stacklevel=2)
            return
        threading.Thread(target=self._server.serve_forever, name="cockpit", daemon=True).start()

    def close(self) -> None:
        """Let nobody look on any more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self._said.unlink(missing_ok=True)
        shutil.rmtree(self._place, ignore_errors=True)
