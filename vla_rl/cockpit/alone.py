"""An environment that a person alone acts in; what succeeds and is kept becomes demonstrations, as in `vla-rl play`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vla_rl.cockpit import controls
from vla_rl.cockpit.holds import Holds
from vla_rl.cockpit.stage import Picture
from vla_rl.play.controls import RefusedError
from vla_rl.play.session import Session


class Alone:
    """One lane, whose world waits for the person who has taken it; see `Stage`."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._holds, self._version, self._episode = Holds(), 0, 0
        self._last: tuple[str, list[list[float]]] = ("", [])

    def about(self) -> dict[str, Any]:
        """See `Stage`."""
        session = self.session
        told = controls.described(session.controls)
        shown = {"title": session.name, "subtitle": f"demonstrations go to {session.folder}", "alone": True}
        return told | shown | {"lanes": 1, "steps": 0, "expert": session.has_expert, "why": ""}

    def look(self, lanes: Sequence[int], seen: Mapping[int, int], value: int) -> tuple[dict[str, Any], list[Picture]]:
        """See `Stage`."""
        self._holds.expire()
        tape, hold = self.session.tape, self._holds.of(0)
        ended = "" if not tape.ended else "success" if tape.succeeded else "no success"
        told: dict[str, Any] = {
            "live": True,
            "step": [len(tape)],
            "episode": [self._episode],
            "reward": [tape.reward],
            "taken": [len(tape)],
            "ended": [ended],
            "version": [self._version],
            "held": {} if hold is None else {"0": hold.who},
            "labels": not tape.verified,
            "values": [],
            "kept": self.session.kept,
        }
        if seen.get(0) == self._version or 0 not in lanes:
            return told, []
        said, marks = self._last
        view = {"": np.asarray(self.session.picture())}
        return told, [Picture(0, self._version, self.session.text, view, {}, said, marks)]

    def take(self, who: str, lane: int) -> None:
        """See `Stage`."""
        self._holds.take(0, who)

    def keep(self, who: str) -> None:
        """See `Stage`."""
        self._holds.keep(who)

    def give(self, who: str) -> None:
        """See `Stage`."""
        self._holds.give(who)

    def act(self, who: str, asked: Mapping[str, Any]) -> str:
        """See `Stage`; also keep, drop and expert."""
        self._check(who)
        session = self.session
        own = {"keep": session.keep, "drop": session.drop, "expert": session.expert}
        what = str(asked.get("do"))
        if what in own:
            said = own[what]()
            self._last = ("the expert", []) if what == "expert" else ("", [])
        else:
            text = session.text
            action = controls.action_of(session.controls, asked, text)
            self._last = controls.told_of(session.controls, action, text), controls.marks_of(session.controls, action)
            said = session.act(action)
        self._episode += what in ("keep", "drop")
        self._version += 1
        return said

    def label(self, who: str, lane: int, success: bool) -> str:
        """See `Stage`."""
        self._check(who)
        said = self.session.judge(success)
        self._version += 1
        return said

    def news(self, after: int) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
        """See `Stage`: nothing is learnt."""
        return [], []

    def rest(self) -> None:
        """See `Stage`."""

    def close(self) -> None:
        """See `Stage`."""
        self.session.env.close()

    def _check(self, who: str) -> None:
        hold = self._holds.of(0)
        if hold is None or hold.who != who:
            raise RefusedError("take over first")
        hold.seen = hold.acted = self._holds.now()
