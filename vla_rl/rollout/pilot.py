"""Somebody beside the policy: who looks on while lanes are collected, and decides for one of them in its place.

The collector asks a pilot at each group's turn. A lane that somebody has taken over rests until there is a decision for
it, while the other lanes of its group go on. Shapes: B lanes of a group, K tokens of a decision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from vla_rl.algorithms.algorithm import Decision
from vla_rl.envs import spoilt
from vla_rl.envs.given import GivenEnvs
from vla_rl.envs.vector import Steps, VectorEnvs
from vla_rl.specs import REMEMBERED

SUCCESS, FAILURE = 1, -1
"""What somebody says an episode has ended in; 0: nothing."""


@dataclass(frozen=True)
class Turn:
    """What the lanes of a group are to do now.

    decision: of all lanes; those that rest do nothing of it. shown: bool [B], whose tokens somebody decided. rests:
    bool [B], lanes that wait; one whose episode is over never does. verdict: int8 [B], `SUCCESS` or `FAILURE` where the
    episode ends with this step, since somebody says so.
    """

    decision: Decision
    shown: np.ndarray
    rests: np.ndarray
    verdict: np.ndarray

    @classmethod
    def of(cls, decision: Decision) -> Turn:
        """The policy's, for all lanes."""
        none = np.zeros(len(decision.tokens), bool)
        return cls(decision, none, none, none.astype(np.int8))

    @property
    def whole(self) -> bool:
        """Whether all lanes act."""
        return not self.rests.any()


class Pilot(Protocol):
    """Looks on, and decides for lanes that somebody has taken over."""

    def turn(self, lanes: slice, observation: Mapping[str, Any], final: np.ndarray, decision: Decision) -> Turn:
        """What a group's lanes are to do, where the policy's `decision` is there; it may wait, but for a moment only.

        observation: the newest, [B, ...]. final: bool [B], lanes whose episode is over, and which begin another.
        """

    def saw(self, lanes: slice, steps: Steps, acted: np.ndarray, final: np.ndarray) -> None:
        """Take in what came of a turn. acted: bool [B], lanes that did not rest. final: as at the turn."""


def decided(decision: Decision, tokens: Mapping[int, np.ndarray]) -> Decision:
    """The decision with other tokens int64 [K] for some of its rows; of those the algorithm has told nothing."""
    if not tokens:
        return decision
    rows = list(tokens)
    whole, extras = decision.tokens.copy(), {name: values.copy() for name, values in decision.extras.items()}
    whole[rows] = [tokens[row] for row in rows]
    for values in extras.values():
        values[rows] = 0
    return replace(decision, tokens=whole, extras=extras)


def judged(steps: Steps, verdict: np.ndarray) -> tuple[Steps, np.ndarray]:
    """The steps as somebody judges them, and bool [B], lanes whose episodes ended by that and not by themselves.

    A success pays 1 beside what the step paid; either verdict ends the episode, and is what its `is_success` says. What
    the environment spoilt is not judged.
    """
    spoke = np.array([bool(each and not spoilt(info)) for each, info in zip(verdict, steps.infos, strict=True)], bool)
    won = spoke & (verdict == SUCCESS)
    infos = [
        info | {"is_success": bool(success)} if told else info
        for info, told, success in zip(steps.infos, spoke, won, strict=True)
    ]
    broken_off = spoke & ~steps.terminated & ~steps.truncated
    return (
        Steps(steps.observation, steps.reward + won, steps.terminated | spoke, steps.truncated & ~spoke, infos),
        broken_off,
    )


@dataclass
class Flight:
    """What a group's lanes have been sent, part by part, and are yet to answer.

    parts: the places in the group of the lanes of each. anew: bool [B], lanes whose episodes somebody has ended, so
    that their environments must be told to begin another.
    """

    anew: np.ndarray
    parts: list[np.ndarray] = field(default_factory=list)

    def send(self, envs: VectorEnvs | GivenEnvs, lanes: slice, turn: Turn) -> None:
        """Have those lanes work that do not rest."""
        if turn.whole and not self.anew.any():
            envs.send(turn.decision.tokens, lanes)
            self.parts = []
            return
        numbers = np.arange(lanes.start, lanes.stop)
        act, begin = np.flatnonzero(~turn.rests & ~self.anew), np.flatnonzero(self.anew)
        self.parts = [part for part in (act, begin) if len(part)]
        if len(act):
            envs.send(turn.decision.tokens[act], numbers[act].tolist())
        if len(begin):
            envs.send_anew(numbers[begin].tolist())

    def receive(self, envs: VectorEnvs | GivenEnvs, before: Mapping[str, Any], turn: Turn) -> Steps:
        """What came of it, of all lanes; those that rested show what they showed `before`."""
        if turn.whole and not self.anew.any():
            return envs.receive()
        received = [(part, envs.receive()) for part in self.parts]
        self.anew = np.zeros_like(self.anew)
        return _whole(received, before, len(turn.rests))


def _whole(parts: Sequence[tuple[np.ndarray, Steps]], before: Mapping[str, Any], rows: int) -> Steps:
    """Parts of a group's steps put together; what is in none of them shows `before`, and nothing has come of it."""
    seen: dict[str, Any] = {
        key: list(value) if isinstance(value, list) else value.copy()
        for key, value in before.items()
        if key != REMEMBERED
    }
    reward, terminated, truncated = np.zeros(rows), np.zeros(rows, bool), np.zeros(rows, bool)
    infos: list[dict[str, Any]] = [{} for _ in range(rows)]
    for at, steps in parts:
        reward[at], terminated[at], truncated[at] = steps.reward, steps.terminated, steps.truncated
        for place, row in enumerate(at.tolist()):
            infos[row] = steps.infos[place]
            for key, value in steps.observation.items():
                seen[key][row] = value[place]
    return Steps(seen, reward, terminated, truncated, infos)
