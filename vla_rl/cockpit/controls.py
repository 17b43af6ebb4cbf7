"""What a person does in the page -> an action of the environment, whatever its actions are.

Keys are called as browsers call them (`KeyboardEvent.key`). Everything that arrives was written by a browser, and is
checked here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from vla_rl.actions.command import KIND, Commands
from vla_rl.play.controls import RefusedError
from vla_rl.play.entries import FINGERS, MOVES, Entries
from vla_rl.play.entry_pad import KEYS
from vla_rl.play.hand import Hand
from vla_rl.play.hand_pad import MOUSE, TYPED

_NAMED = {"Left": "ArrowLeft", "Right": "ArrowRight", "Up": "ArrowUp", "Down": "ArrowDown"}
_NAMED |= {"Prior": "PageUp", "Next": "PageDown"}
MOVING = {_NAMED.get(key, key): MOVES[word] for key, word in KEYS.items()}
"""A key -> the entry that it moves, and which way."""
AXES = ("x", "y", "z", "yaw")
"""What the sticks of a gamepad move: the left one right and up, the right one up and right."""
FAR = 1e6
"""Numbers that are larger in size are no place and no push."""
MOST_TEXT = 2000
"""Letters that a person may send at once."""


def controls_of(env: gymnasium.Env) -> Hand | Entries:
    """The actions of an environment as a person takes them. Raises ConfigError where they cannot."""
    return Hand(env.action_space) if isinstance(env.action_space, Commands) else Entries(env)


def described(controls: Hand | Entries) -> dict[str, Any]:
    """What the page has to know: the kind of device, what there is to do, and the help in lines."""
    if isinstance(controls, Hand):
        kinds = {
            kind: {"places": controls.places(kind), "speaks": controls.speaks(kind), "choices": controls.choices(kind)}
            for kind in controls.kinds
        }
        others = [kind for kind in kinds if kind not in (*MOUSE, *TYPED, "key")]
        return {"device": "screen", "kinds": kinds, "others": others, "help": _screen_help(controls, others)}
    if controls.choices:
        return {"device": "choice", "choices": controls.choices, "help": ["digits", "choose an action"]}
    return {
        "device": "arm",
        "entries": list(controls.names),
        "keys": [key for key, (name, _) in MOVING.items() if name in controls.names],
        "axes": [name for name in AXES if name in controls.names],
        "fingers": FINGERS in controls.names,
        "help": _arm_help(controls),
    }


def _arm_help(controls: Entries) -> list[str]:
    """Keys and what they do, in turn."""
    found: list[str] = []
    told = {
        "x": ("← →", "left, right"),
        "y": ("↑ ↓", "forward, back"),
        "z": ("w s", "up, down"),
        "yaw": ("q e", "turn"),
    }
    for name, words in told.items():
        found += words if name in controls.names else ()
    found += ("space", "open or close the fingers") if FINGERS in controls.names else ()
    found += ("drag", "move in the plane") if {"x", "y"} <= set(controls.names) else ()
    rest = [name for name in controls.names if name not in (*told, FINGERS)]
    found += ("1 ... + -", f"choose and change: {', '.join(controls.names[:9])}") if rest else ()
    return [*found, ".", "do nothing for a step", "gamepad", "sticks move, A is the fingers"]


def _screen_help(hand: Hand, others: Sequence[str]) -> list[str]:
    found = ["mouse", ", ".join(kind.replace("_", " ") for kind in hand.kinds if kind in MOUSE)]
    if any(kind in hand.kinds for kind in TYPED):
        found += ["letters, then enter", "type them" if "write" in hand.kinds else "type words of the instruction"]
    if "key" in hand.kinds:
        found += ["keys", ", ".join(hand.choices("key"))]
    for number, kind in enumerate(others, 1):
        found += [f"F{number}", kind.replace("_", " ")]
    return found


def action_of(controls: Hand | Entries, asked: Mapping[str, Any], text: str) -> Any:
    """The action that a message of the page asks for; `text` is the present text of the task.

    Raises:
        RefusedError: it asks for nothing that there is.
    """
    what = asked.get("do")
    if isinstance(controls, Hand):
        if what == "gesture":
            return _gesture(controls, asked, text)
        if what == "type":
            return _typed(controls, _said(asked), text)
        raise RefusedError("this is a screen: click, drag and type in it")
    if what == "choose":
        return controls.choose(_whole(asked.get("number")))
    if controls.choices:
        raise RefusedError("digits choose an action here")
    if what == "move":
        return controls.set(_moved(controls, asked))
    if what == "wait":
        return controls.set({})
    if what == "fingers":
        ends = [controls.end(FINGERS, sign) for sign in (-1, 1)]
        return controls.set({FINGERS: ends[not controls.value(FINGERS) > sum(ends) / 2]})
    if what == "entry":
        number = _whole(asked.get("number"))
        if not 1 <= number <= len(controls.names):
            raise RefusedError(f"{number}: entries go from 1 to {len(controls.names)}")
        name = controls.names[number - 1]
        return controls.set({name: controls.end(name, 1 if asked.get("sign") == 1 else -1)})
    raise RefusedError(f"nobody knows how to {str(what)[:40]!r}")


def _moved(controls: Entries, asked: Mapping[str, Any]) -> dict[str, float]:
    """The entries that held keys, sticks and a dragged mouse move, as far as they push."""
    push = dict.fromkeys(AXES, 0.0)
    for key in _some(asked.get("keys"), len(MOVING)):
        if isinstance(key, str) and key in MOVING:
            name, sign = MOVING[key]
            push[name] = push.get(name, 0.0) + sign
    for name, share in zip(AXES, _some(asked.get("axes"), len(AXES)), strict=False):
        push[name] += _number(share)
    changes = {}
    for name, share in push.items():
        if share and name in controls.names:
            low, high = (controls.end(name, sign) for sign in (-1, 1))
            changes[name] = (low + high) / 2 + (high - low) / 2 * max(-1.0, min(1.0, share))
    return changes


def _gesture(hand: Hand, asked: Mapping[str, Any], text: str) -> dict[str, Any]:
    """A command of a kind, at shares of the picture's width and height."""
    kind = asked.get("kind")
    if not isinstance(kind, str) or kind not in hand.kinds:
        raise RefusedError(f"there is no {str(kind)[:40]!r} here")
    at = _some(asked.get("at"), 2)
    wanted = hand.places(kind)
    at = at * wanted if len(at) == 1 else at
    if len(at) < wanted:
        raise RefusedError(f"{kind}: point at the picture")
    places = []
    for index, share in enumerate(at[:wanted]):
        x, y = (min(max(_number(part), 0.0), 1.0) for part in [*_some(share, 2), None, None][:2])
        places.append(hand.place(kind, index, (x, y)))
    return hand.command(kind, places, _said(asked), text)


def _typed(hand: Hand, said: str, text: str) -> dict[str, Any]:
    """What was typed as words of the text, or else letter by letter."""
    reason = "nothing can be typed here"
    for kind in TYPED:
        if kind in hand.kinds:
            try:
                return hand.command(kind, (), said, text)
            except RefusedError as error:
                reason = str(error)
    raise RefusedError(reason)


def marks_of(controls: Hand | Entries | None, action: Any) -> list[list[float]]:
    """Where an action points at, as shares of the picture; nothing where it points nowhere."""
    if not isinstance(controls, Hand):
        return []
    kind = controls.kinds[int(action[KIND])]
    found = []
    for name in controls.space.takes[kind]:
        box = controls.space[name]
        if isinstance(box, gymnasium.spaces.Box):
            share = (np.asarray(action[name], float) - box.low) / (box.high - box.low)
            found.append([round(float(part), 4) for part in share])
    return found


def told_of(controls: Hand | Entries | None, action: Any, text: str) -> str:
    """An action in a few words."""
    if isinstance(controls, Hand):
        return controls.told(action, text)
    if controls is None or controls.choices:
        return str(action)
    numbers = np.asarray(action, float).ravel().tolist()
    parts = [f"{name} {value:+.2f}" for name, value in zip(controls.names, numbers, strict=True) if abs(value) > 5e-3]
    return "  ".join(parts) or "nothing"


def _some(value: Any, most: int) -> list[Any]:
    return value[:most] if isinstance(value, list) else []


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= FAR:
        raise RefusedError(f"expected a number, got {str(value)[:40]!r}")
    return float(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise RefusedError(f"expected a whole number, got {str(value)[:40]!r}")
    return value


def _said(asked: Mapping[str, Any]) -> str:
    said = asked.get("said", "")
    if not isinstance(said, str) or len(said) > MOST_TEXT:
        raise RefusedError(f"expected a text of at most {MOST_TEXT} letters")
    return said
