"""A training in another process, as the page shows it: by its folder, and through its socket while it runs."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import gymnasium
import numpy as np

from vla_rl import config, envs
from vla_rl.actions import horizon
from vla_rl.cockpit import controls, wire
from vla_rl.cockpit.health import MetricsTail, warnings
from vla_rl.cockpit.stage import Picture
from vla_rl.paths import METRICS_FILE
from vla_rl.play.controls import RefusedError
from vla_rl.play.entries import Entries
from vla_rl.play.hand import Hand
from vla_rl.registry import ConfigError, SetupError

PATIENCE = 10.0
"""Seconds within which a training answers."""
CURVES = ("train/success_rate", "eval/pc_success", "q/mean", "q/return", "train/episodes", "train/cost")
"""What of the metrics the page draws."""


class Running:
    """A run's folder, and the training in it while there is one; see `Stage`.

    Raises:
        ConfigError: the folder holds no run, or one whose config needs more than was given.
    """

    def __init__(self, folder: Path, overrides: Sequence[str] = ()) -> None:
        self.folder = folder
        self._run = config.load(["resume=true", f"run_dir={folder}", *overrides], command="cockpit")
        self._env, self._why = _made(self._run)
        self._tokens: Any = None
        if self._env is not None:
            self._tokens = envs.bind_tokens(self._run.action_space, self._env.action_space, self._run.plugins)
        self._metrics = MetricsTail(folder / METRICS_FILE)
        self._stream: BinaryIO | None = None
        self._socket: socket.socket | None = None
        self._about: dict[str, Any] = {}
        self._newest: dict[int, Picture] = {}
        self._done: dict[int, Any] = {}
        self._episodes: list[int] = []
        self._acting: dict[str, tuple[Hand | Entries, int, int]] = {}

    def about(self) -> dict[str, Any]:
        """See `Stage`."""
        told = {"device": "none", "help": []} if self._env is None else controls.described(self._controls())
        names = [env.name for env in self._run.envs]
        shown = {"title": " + ".join(names), "subtitle": str(self.folder), "alone": False, "why": self._why}
        return told | shown | {"lanes": self._run.train.num_envs, "steps": self._run.train.steps}

    def look(self, lanes: Sequence[int], seen: Mapping[int, int], value: int) -> tuple[dict[str, Any], list[Picture]]:
        """See `Stage`."""
        asked = {"ask": "look", "lanes": list(lanes), "value": [value]}
        try:
            told, blob = self._ask(asked | {"seen": {str(lane): version for lane, version in seen.items()}})
        except RefusedError:
            return {"live": False}, []
        pictures, at = [], 0
        for each in told.pop("pictures"):
            views = {}
            for camera in each["cameras"]:
                size = int(np.prod(camera["shape"]))
                views[camera["name"]] = np.frombuffer(blob, np.uint8, size, at).reshape(camera["shape"])
                at += size
            pictures.append(self._picture(each, views, told["version"][each["lane"]]))
        self._newest |= {picture.lane: picture for picture in pictures}
        self._episodes = told["episode"]
        told["values"] = told["values"].get(str(value), [])
        told["tasks"] = self._about.get("tasks", [])
        return told | {"live": True, "tells_q": self._about.get("tells_q")}, pictures

    def _picture(self, told: Mapping[str, Any], views: dict[str, np.ndarray], version: int) -> Picture:
        pointers = {camera["name"]: camera["pointers"] for camera in told["cameras"]}
        said, marks = "", []
        if self._env is not None:
            decoded = self._tokens.decode(np.asarray(told["tokens"], np.int64))
            action = decoded[0] if horizon(self._tokens) > 1 else decoded
            own = self._controls()
            said, marks = controls.told_of(own, action, told["text"]), controls.marks_of(own, action)
            self._done[told["lane"]] = action
        return Picture(told["lane"], version, told["text"], views, pointers, said, marks)

    def take(self, who: str, lane: int) -> None:
        """See `Stage`; what the policy has brought about, such as closed fingers, stays so."""
        if self._env is None:
            raise RefusedError(f"nobody can act here: {self._why}")
        self._ask({"ask": "take", "who": who, "lane": lane})
        if self._acting.get(who, (None, -1))[1] != lane:
            own = self._controls()
            if lane in self._done:
                own.follow(self._done[lane])
            self._acting[who] = own, lane, self._episode(lane)

    def keep(self, who: str) -> None:
        """See `Stage`."""
        self._ask({"ask": "keep", "who": who})

    def give(self, who: str) -> None:
        """See `Stage`."""
        self._acting.pop(who, None)
        self._ask({"ask": "give", "who": who})

    def act(self, who: str, asked: Mapping[str, Any]) -> str:
        """See `Stage`."""
        own, lane = self._own(who)
        text = self._newest[lane].text if lane in self._newest else ""
        action = controls.action_of(own, asked, text)
        tokens = self._encoded(action)
        self._ask({"ask": "act", "who": who, "tokens": tokens, "newest": isinstance(own, Entries)})
        own.follow(action)
        return controls.told_of(own, action, text)

    def label(self, who: str, lane: int, success: bool) -> str:
        """See `Stage`; a lane that waits for this person does nothing in the step that ends the episode."""
        told: dict[str, Any] = {"ask": "label", "who": who, "lane": lane, "success": success}
        if self._env is not None and self._acting.get(who, (None, -1))[1] == lane:
            own, _ = self._own(who)
            still = own.set({}) if isinstance(own, Entries) and own.names else envs.still(self._env.action_space)
            try:
                told["tokens"] = self._encoded(still)
            except RefusedError:  # doing nothing is no decision here: the policy's is carried out
                told["tokens"] = None
        self._ask(told)
        return f"lane {lane} ends as a {'success' if success else 'failure'}"

    def news(self, after: int) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
        """See `Stage`."""
        lines = self._metrics.read()
        chosen = [{key: line[key] for key in ("step", *CURVES) if key in line} for line in lines[after:]]
        return chosen, warnings(lines)

    def rest(self) -> None:
        """See `Stage`."""
        if self._stream is not None:
            self._stream.close()
        if self._socket is not None:
            self._socket.close()
        self._stream = self._socket = None

    def close(self) -> None:
        """See `Stage`."""
        self.rest()

    def _controls(self) -> Hand | Entries:
        assert self._env is not None
        return controls.controls_of(self._env)

    def _own(self, who: str) -> tuple[Hand | Entries, int]:
        """The controls of a person, and their lane; those of an episode that has begun since begin anew."""
        if who not in self._acting:
            raise RefusedError("take over first")
        own, lane, episode = self._acting[who]
        if episode != self._episode(lane):
            own.begin()
            self._acting[who] = own, lane, self._episode(lane)
        return own, lane

    def _episode(self, lane: int) -> int:
        return self._episodes[lane] if lane < len(self._episodes) else 0

    def _encoded(self, action: Any) -> list[int]:
        """The decision for an action; a chunk repeats it."""
        steps = horizon(self._tokens)
        try:
            return [int(token) for token in self._tokens.encode([action] * steps if steps > 1 else action)]
        except ValueError as error:
            raise RefusedError(f"the policy's actions know nothing of the kind: {error}") from error

    def _ask(self, asked: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        """What the training answers. Raises RefusedError, also where none runs."""
        try:
            if self._stream is None:
                self._connect()
            stream = cast("BinaryIO", self._stream)
            wire.write(stream, dict(asked))
            told, blob = wire.read(stream, wire.MOST_TOLD)
        except (OSError, wire.WireError, ValueError, KeyError) as error:
            self.rest()
            raise RefusedError(f"no training runs in {self.folder} now") from error
        if "refused" in told:
            raise RefusedError(str(told["refused"]))
        return told, blob

    def _connect(self) -> None:
        address = json.loads((self.folder / wire.ADDRESS).read_text("utf-8"))["socket"]
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        self._socket.connect(address)
        self._stream = cast("BinaryIO", self._socket.makefile("rwb"))
        wire.write(self._stream, {"ask": "about"})
        self._about, _ = wire.read(self._stream, wire.MOST_TOLD)


def _made(run: Any) -> tuple[gymnasium.Env | None, str]:
    """One of the run's environments, closed again: what its actions are called; or why nobody can act in it."""
    try:
        env = envs.factory(run.each()[0])()
        env.close()
        controls.controls_of(env)
    except (ConfigError, SetupError) as error:
        return None, str(error)
    return env, ""
