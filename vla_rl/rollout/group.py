"""Lanes that are acted for together, and where they stand: kept, and gone on from."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from vla_rl.algorithms.algorithm import Decision
from vla_rl.envs.history import History
from vla_rl.envs.vector import Steps
from vla_rl.rollout.pilot import Flight, Turn


@dataclass
class Group:
    """Lanes that are acted for together. observation: their newest. final, fresh: bool [B], whether it ends, or begins,
    an episode. spoilt: bool [B], whether the environment spoilt the episode, which is then forgotten to its end.
    turn: what their environments are at; None where all rest. flight: how they were sent to it. again: bool [B], lanes
    that rested in the last turn, and show the same once more; None for none. steps: what came of the turn, where
    that is known, but not taken in yet."""

    lanes: slice
    observation: dict[str, Any]
    final: np.ndarray
    fresh: np.ndarray
    spoilt: np.ndarray
    history: History
    flight: Flight
    turn: Turn | None = None
    again: np.ndarray | None = None
    steps: Steps | None = None

    def begin(self, lanes: Sequence[int], shown: dict[str, Any]) -> None:
        """Take in that episodes have begun in some lanes, by their numbers; `shown`: the observations of all."""
        rows = [lane - self.lanes.start for lane in lanes]
        for key, values in shown.items():
            if key in self.observation:
                self.observation[key] = replaced(self.observation[key], rows, [values[lane] for lane in lanes])
        self.final[rows], self.fresh[rows], self.spoilt[rows], self.flight.anew[rows] = False, True, False, False
        if self.again is not None:
            self.again[rows] = False

    def state_dict(self, told: Collection[str]) -> dict[str, Any]:
        """Where the lanes stand; of the infos of `steps`, what is `told` by these keys. A turn must have steps."""
        return {
            "lanes": [self.lanes.start, self.lanes.stop],
            "observation": self.observation,
            "final": self.final,
            "fresh": self.fresh,
            "spoilt": self.spoilt,
            "history": self.history.state_dict(),
            "anew": self.flight.anew,
            "again": self.again,
            "turn": None if self.turn is None else vars(self.turn) | {"decision": vars(self.turn.decision)},
            "steps": None if self.steps is None else _steps_state(self.steps, told),
        }

    @classmethod
    def of(cls, state: dict[str, Any], stack: int) -> Self:
        """A group that stands where `state_dict` says. Raises KeyError or TypeError where that says something else."""
        history = History(stack)
        history.load_state_dict(state["history"])
        turn = state["turn"]
        return cls(
            slice(*state["lanes"]),
            **{name: state[name] for name in ("observation", "final", "fresh", "spoilt")},
            history=history,
            flight=Flight(state["anew"]),
            turn=None if turn is None else Turn(**{**turn, "decision": Decision(**turn["decision"])}),
            again=state["again"],
            steps=None if state["steps"] is None else Steps(**state["steps"]),
        )


def _steps_state(steps: Steps, told: Collection[str]) -> dict[str, Any]:
    infos = [{key: info[key] for key in told if key in info} for info in steps.infos]
    return vars(steps) | {"infos": infos}


def replaced(column: Any, rows: Sequence[int], values: Any) -> Any:
    """A column [B, ...], or a list, with other values [C, ...] in some rows."""
    new = list(column) if isinstance(column, list) else column.copy()
    for row, value in zip(rows, values, strict=True):
        new[row] = value
    return new
