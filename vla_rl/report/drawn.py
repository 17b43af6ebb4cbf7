"""Filmed episodes with what the policy did and saw drawn onto their pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from vla_rl.actions import horizon
from vla_rl.actions.command import Command, Commands
from vla_rl.actions.text import spanned, spelled
from vla_rl.evaluation.outcome import EvalResult, Outcome, Sight
from vla_rl.media import marks
from vla_rl.media.marks import Arrow, Click, Mark, Pointed, Words
from vla_rl.specs import ActionSpace, Slot

SURE = 0.5
"""A pointer is drawn that is at least so sure to see its thing."""
_NUMBERS = 8
"""Of an action, that are told."""


@dataclasses.dataclass(frozen=True)
class Told:
    """A decision for people. kind: of a command, "" otherwise. places: where it points, in [-1, 1]; words: the rest."""

    kind: str
    places: tuple[marks.Place, ...]
    words: str

    @property
    def said(self) -> str:
        """In words, such as `type "blue"`."""
        return f"{self.kind} {self.words}".strip()

    @property
    def marks(self) -> list[Mark]:
        """On a picture."""
        if len(self.places) == 2:
            found: list[Mark] = [Arrow(self.places[0], self.places[1], drag=True)]
        else:
            found = [Click(place) for place in self.places]
        named = self.said if self.kind and (self.words or not self.places) else ""
        return [*found, *([Words(named)] if named else [])]


def told(tokens: np.ndarray, space: ActionSpace, actions: spaces.Space, text: str, names: Sequence[str] = ()) -> Told:
    """What a decision, int64 [K] of the bound `space` over `actions`, was, where the task's text was `text`.

    names: of an action's numbers.
    """
    if isinstance(space, Command) and isinstance(actions, Commands):
        return _command(tokens, space, actions, text)
    places = tuple(
        _centre(slot, int(token)) for slot, token in zip(space.slots, tokens, strict=True) if slot.kind == "place"
    )
    decoded = space.decode(np.asarray(tokens, np.int64))
    steps = list(decoded) if horizon(space) > 1 else [decoded]
    more = f", and {len(steps) - 1} more" if len(steps) > 1 else ""
    return Told("", places, _numbers(steps[0], names) + more)


def _command(tokens: np.ndarray, space: Command, actions: Commands, text: str) -> Told:
    kind, begin = actions.kinds[int(tokens[0])], 1
    places, words = list[marks.Place](), list[str]()
    for name, part in space.parts.items():
        own, begin = tokens[begin : begin + len(part.slots)], begin + len(part.slots)
        if name not in actions.takes[kind]:
            continue
        if part.slots[0].kind == "place":
            places.append(_centre(part.slots[0], int(own[0])))
        else:
            words.append(_written(actions, name, part.decode(np.asarray(own, np.int64)), text))
    return Told(kind, tuple(places), " ".join(words))


def _centre(slot: Slot, token: int) -> marks.Place:
    """The middle of a place's cell, in [-1, 1]."""
    assert slot.grid is not None, slot
    rows, columns = slot.grid
    row, column = divmod(token, columns)
    return (column + 0.5) / columns * 2 - 1, (row + 0.5) / rows * 2 - 1


def _written(actions: Commands, name: str, value: Any, text: str) -> str:
    """An argument of a command: words, characters in quotes, or the name of a choice."""
    part, called = actions[name], actions.names.get(name, ())
    if isinstance(part, spaces.MultiDiscrete) and (called or actions.is_span(name)):
        return f'"{spelled(value, called) if called else spanned(value, text, int(part.nvec[0]))}"'
    if isinstance(part, spaces.Discrete) and called:
        return called[int(value) - int(part.start)]
    return _numbers(value, ())


def _numbers(action: Any, names: Sequence[str]) -> str:
    """An action that is no command, as its numbers."""
    if isinstance(action, dict):
        return ", ".join(f"{key} {_numbers(value, ())}" for key, value in action.items())
    if isinstance(action, tuple | list):
        return ", ".join(_numbers(each, ()) for each in action)
    values = np.asarray(action).ravel()
    if len(values) > _NUMBERS:
        return f"{len(values)} numbers"
    signed = [f"{value:+.2f}" if values.dtype.kind == "f" else str(value) for value in values]
    return (
        ", ".join(f"{name} {value}" for name, value in zip(names, signed, strict=True))
        if (len(names) == len(values))
        else ", ".join(signed)
    )


def steps_told(outcome: Outcome, space: ActionSpace, actions: spaces.Space, names: Sequence[str] = ()) -> list[Told]:
    """Each decision of an episode."""
    texts, own = (outcome.sight.texts, outcome.sight.action_names) if outcome.sight else ((), ())
    padded = [*texts, *[outcome.task] * (len(outcome.tokens) - len(texts))]
    return [
        told(tokens, space, actions, text, names or own) for tokens, text in zip(outcome.tokens, padded, strict=False)
    ]


def with_marks(result: EvalResult, space: ActionSpace, actions: spaces.Space) -> EvalResult:
    """The result, whose films show what was done at each decision, and what the pointers saw.

    Where the films' pictures are not what the camera sees, it is the camera's pictures that are drawn on: those of
    `Sight`.
    """
    return dataclasses.replace(
        result, outcomes=tuple(_with_marks(each, space, actions) if each.frames else each for each in result.outcomes)
    )


def _with_marks(outcome: Outcome, space: ActionSpace, actions: spaces.Space) -> Outcome:
    sight = outcome.sight
    if sight is None:
        return outcome
    own = frame_marks(outcome, sight, space, actions)
    pictures = outcome.frames if sight.same_view and outcome.frames else sight.pictures
    painted = tuple(marks.drawn(picture, each) for picture, each in zip(pictures, own, strict=True))
    sight = dataclasses.replace(sight, pictures=painted)
    return dataclasses.replace(outcome, sight=sight, frames=painted if sight.same_view else outcome.frames)


def shown(results: Mapping[str, EvalResult], space: ActionSpace, actions: spaces.Space) -> dict[str, Any]:
    """The films of each task, with marks, by name: `success`, or where there are several tasks `reach/failure`."""
    found = {}
    for task, result in results.items():
        for outcome in with_marks(result, space, actions).outcomes:
            if outcome.frames and not outcome.invalid:
                kind = "success" if outcome.success else "failure"
                found[f"{task}/{kind}" if len(results) > 1 else kind] = outcome.frames
    return found


def frame_marks(outcome: Outcome, sight: Sight, space: ActionSpace, actions: spaces.Space) -> list[list[Mark]]:
    """The marks of each of N + 1 pictures: what was decided there, how the hand then moved, where pointers pointed."""
    found: list[list[Mark]] = []
    cameras = {slot.camera for slot in space.slots if slot.kind == "place"}
    for step, each in enumerate(steps_told(outcome, space, actions)):
        here = each.marks if not cameras or sight.camera in cameras else []
        if step + 1 < len(sight.hand):
            here = [*here, Arrow(sight.hand[step], sight.hand[step + 1])]
        if step < len(sight.pointers):
            here = [*_pointed(sight.pointers[step]), *here]
        found.append(here)
    return [*found, []]


def _pointed(pointers: np.ndarray) -> list[Mark]:
    """The pointers of one decision that are sure, float [S, 3]: things by their number in the text, then the hand."""
    last = len(pointers) - 1
    return [
        Pointed((float(x), float(y)), "hand" if number == last else str(number + 1))
        for number, (x, y, sure) in enumerate(pointers)
        if sure >= SURE
    ]
