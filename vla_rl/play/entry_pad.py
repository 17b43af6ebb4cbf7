"""Keyboard and mouse on actions of numbered entries, or choices."""

from __future__ import annotations

from collections.abc import Callable

from vla_rl.play.controls import RefusedError
from vla_rl.play.entries import FINGERS, MOVES, Entries
from vla_rl.play.session import Session

KEYS = {
    "Left": "left",
    "Right": "right",
    "Up": "forward",
    "Down": "back",
    "Prior": "up",
    "w": "up",
    "Next": "down",
    "s": "down",
    "q": "anticlockwise",
    "e": "clockwise",
}
"""A key's name in Tk -> a movement. Prior and Next are Page Up and Page Down."""
SIGNS = {"plus": 1, "KP_Add": 1, "equal": 1, "minus": -1, "KP_Subtract": -1}
"""A key's name in Tk -> which way it changes an entry."""
DRAG = 40.0
"""Pixels that the mouse is dragged for as far as a step can go."""
LEAST_DRAG = 10
"""Pixels before a drag counts."""


class EntryPad:
    """Each key press moves by one step; see `vla_rl.play.window.Pad`."""

    stop = "Escape"
    prompt = ""

    def __init__(self, session: Session, entries: Entries) -> None:
        self.session, self.entries = session, entries
        self.size = (0, 0)
        self._entry = 0
        self._drag: tuple[int, int] | None = None

    @property
    def help(self) -> tuple[str, ...]:
        """See `Pad`."""
        entries = self.entries
        if entries.choices:
            lines = ["digits: choose an action"]
        else:
            moves = {"x": "left right: x", "y": "up down: y", "z": "w s, page up/down, wheel: z", "yaw": "q e: yaw"}
            lines = [", ".join(text for name, text in moves.items() if name in entries.names)]
            lines += ["space: open or close the fingers"] if FINGERS in entries.names else []
            lines += ["drag: x and y"] if {"x", "y"} <= set(entries.names) else []
            lines.append(f"any entry ({', '.join(entries.names)}): its number chooses it, + and - change it")
        lines += ["h: let the expert act once"] if self.session.has_expert else []
        lines.append(
            f"enter: keep an episode that succeeded, in {self.session.folder}; backspace: drop it; escape: stop"
        )
        return tuple(line for line in lines if line)

    def key(self, name: str, letter: str) -> str | None:
        """See `Pad`."""
        known: dict[str, Callable[[], str]] = {
            "Return": self.session.keep,
            "BackSpace": self.session.drop,
            "h": self.session.expert,
            "space": self._toggle,
        }
        if name in KEYS:
            return self._move(KEYS[name])
        if name in known:
            return known[name]()
        if name in SIGNS:
            return self._change(SIGNS[name])
        digit = name.removeprefix("KP_")
        return self._digit(int(digit)) if digit.isdigit() else None

    def press(self, x: int, y: int) -> None:
        """See `Pad`."""
        self._drag = (x, y)

    def move(self, x: int, y: int) -> str | None:
        """See `Pad`: with the button held, x and y go where the mouse goes."""
        if self._drag is None:
            return None
        right, down = x - self._drag[0], y - self._drag[1]
        if max(abs(right), abs(down)) < LEAST_DRAG:
            return None
        self._drag = (x, y)
        return self._set({"x": self._share("x", right), "y": self._share("y", -down)})

    def release(self, x: int, y: int) -> None:
        """See `Pad`."""
        self._drag = None

    def wheel(self, up: bool) -> str:
        """See `Pad`."""
        return self._move("up" if up else "down")

    def _move(self, word: str) -> str:
        name, sign = MOVES[word]
        return self._set({name: self.entries.end(name, sign)})

    def _toggle(self) -> str:
        ends = [self.entries.end(FINGERS, sign) for sign in (-1, 1)]
        opened = self.entries.value(FINGERS) > sum(ends) / 2
        return self._set({FINGERS: ends[not opened]})

    def _digit(self, number: int) -> str:
        """Choose an action where they are choices, else an entry, counted from 1."""
        if self.entries.choices:
            return self.session.act(self.entries.choose(number))
        if not 1 <= number <= len(self.entries.names):
            raise RefusedError(f"{number}: entries go from 1 to {len(self.entries.names)}")
        self._entry = number - 1
        return f"+ and - change {self.entries.names[self._entry]}"

    def _change(self, sign: int) -> str:
        if self.entries.choices:
            raise RefusedError("digits choose an action here")
        name = self.entries.names[self._entry]
        return self._set({name: self.entries.end(name, sign)})

    def _share(self, name: str, pixels: int) -> float:
        """So far from the middle of an entry's range towards its end as the mouse went."""
        low, high = (self.entries.end(name, sign) for sign in (-1, 1))
        return (low + high) / 2 + (high - low) / 2 * max(-1.0, min(1.0, pixels / DRAG))

    def _set(self, changes: dict[str, float]) -> str:
        return self.session.act(self.entries.set(changes))
