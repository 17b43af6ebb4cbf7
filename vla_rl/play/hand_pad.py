"""Keyboard and mouse on commands: what they do to the picture is done to the screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vla_rl.play.controls import RefusedError
from vla_rl.play.hand import Hand, Place
from vla_rl.play.session import Session
from vla_rl.registry import nearest

KEYS = {
    "Return": "Enter",
    "KP_Enter": "Enter",
    "Tab": "Tab",
    "BackSpace": "Backspace",
    "Delete": "Delete",
    "Escape": "Escape",
    "Left": "ArrowLeft",
    "Right": "ArrowRight",
    "Up": "ArrowUp",
    "Down": "ArrowDown",
    "Control-a": "SelectAll",
}
"""A key's name in Tk -> that of a browser, by which commands have it."""
TYPED = ("type", "write")
"""Kinds that take what was typed, the first that can."""
MOUSE = ("click", "double_click", "drag", "scroll_up", "scroll_down")
"""Kinds that the mouse does; those that it and the keyboard do not do have function keys."""
DOUBLE = 300
"""Milliseconds within which a second click makes a double click."""
LEAST_DRAG = 5
"""Pixels before a press and a release are a drag."""


class HandPad:
    """A click is a click there; what is typed waits for enter; see `vla_rl.play.window.Pad`.

    Where there are double clicks, a click waits for a moment whether a second one comes.

    Args:
        session: what is played.
        hand: its controls.
        later: does something after so many milliseconds.
    """

    stop = "Control-q"

    def __init__(self, session: Session, hand: Hand, later: Callable[[int, Callable[[], str | None]], None]) -> None:
        self.session, self.hand, self._later = session, hand, later
        self.size = (1, 1)
        others = [kind for kind in hand.kinds if kind not in (*MOUSE, *TYPED, "key")]
        self._functions = {f"F{i}": kind for i, kind in enumerate(others, 1)}
        self._keys = {"Control-s": session.keep, "Control-d": session.drop, "Control-e": session.expert}
        self._types = any(hand.speaks(kind) for kind in (*TYPED, *others) if kind in hand.kinds)
        self._typed, self._mouse = "", (-1, -1)
        self._down: tuple[int, int] | None = None
        self._click: tuple[int, int] | None = None

    @property
    def help(self) -> tuple[str, ...]:
        """See `Pad`."""
        session, kinds = self.session, self.hand.kinds
        by_mouse = [kind.replace("_", " ") for kind in kinds if kind in MOUSE]
        lines = [f"mouse and wheel: {', '.join(by_mouse)}"]
        if self._types:
            write = " or anything else" if "write" in kinds else ""
            lines.append(f"type words of the text{write}; enter sends it, escape forgets it")
        keys = (key.replace("SelectAll", "SelectAll (ctrl+a)") for key in self.hand.choices("key"))
        lines += [f"keys: {', '.join(keys)}"] if "key" in kinds else []
        lines.append(", ".join(f"{key}: {self._function(kind)}" for key, kind in self._functions.items()))
        lines += ["ctrl+e: let the expert act once"] if session.has_expert else []
        lines.append(f"ctrl+s: keep an episode that succeeded, in {session.folder}; ctrl+d: drop it; ctrl+q: stop")
        return tuple(line for line in lines if line)

    @property
    def prompt(self) -> str:
        """See `Pad`."""
        return f"> {self._typed}_" if self._types else ""

    def key(self, name: str, letter: str) -> str | None:
        """See `Pad`."""
        self._settle()
        if name in self._keys:
            said = self._keys[name]()
            self._forget()
            return said
        if name in self._functions:
            return self._call(self._functions[name], name)
        if self._typed and name in ("Return", "KP_Enter", "BackSpace", "Escape"):
            return self._edit(name)
        if letter and self._types:
            self._typed += letter
            return None
        return self._press(KEYS.get(name, name), known=bool(letter) or name in KEYS)

    def press(self, x: int, y: int) -> None:
        """See `Pad`."""
        self._mouse = (x, y)
        self._down = (x, y) if self._inside(x, y) else None

    def move(self, x: int, y: int) -> None:
        """See `Pad`."""
        self._mouse = (x, y)

    def release(self, x: int, y: int) -> str | None:
        """See `Pad`: a click, the second of a double click, or the end of a drag."""
        down, self._down, self._mouse = self._down, None, (x, y)
        if down is None:
            return None
        if _far(down, (x, y)):
            self._settle()
            end = (min(max(x, 0), self.size[0] - 1), min(max(y, 0), self.size[1] - 1))
            return self._act("drag", (down, end))
        if "double_click" not in self.hand.kinds:
            return self._act("click", (down,))
        if self._click is not None and not _far(down, self._click):
            self._click = None
            return self._act("double_click", (down,))
        said = self._settle()
        self._ready()
        self._click = waiting = down
        self._later(DOUBLE, lambda: self._settle() if self._click is waiting else None)
        return said

    def wheel(self, up: bool) -> str:
        """See `Pad`."""
        self._settle()
        return self._act("scroll_up" if up else "scroll_down", (self._pointed(),))

    def _settle(self) -> str | None:
        """A click that waited for a second one was one click."""
        click, self._click = self._click, None
        return self._act("click", (click,)) if click is not None else None

    def _forget(self) -> None:
        self._typed, self._down, self._click = "", None, None

    def _edit(self, name: str) -> str | None:
        """Send what was typed, or take some of it back."""
        if name == "BackSpace":
            self._typed = self._typed[:-1]
        elif name == "Escape":
            self._typed = ""
        else:
            return self._send()
        return None

    def _press(self, key: str, known: bool) -> str | None:
        """A key; one that is not `known` and means nothing here, such as shift, does nothing."""
        if key in self.hand.choices("key"):
            return self._act("key", said=key)
        if known:
            raise RefusedError(f"no key {key!r} here; {nearest(key, self.hand.choices('key'))}")
        return None

    def _send(self) -> str:
        """What was typed as words of the text, or else character by character."""
        reason = "what is typed goes with a function key here"
        for kind in TYPED:
            if kind in self.hand.kinds:
                try:
                    action = self.hand.command(kind, (), self._typed, self.session.text)
                except RefusedError as error:
                    reason = str(error)
                    continue
                said, self._typed = self.session.act(action), ""
                return said
        raise RefusedError(reason)

    def _call(self, kind: str, key: str) -> str:
        """A kind with a function key: its places are the mouse's, its words those that were typed."""
        said = self._typed if self.hand.speaks(kind) else ""
        if self.hand.speaks(kind) and not said:
            raise RefusedError(f"type what {kind} shall take first, then press {key}")
        count = self.hand.places(kind)
        done = self._act(kind, (self._pointed(),) * count if count else (), said)
        self._typed = "" if said else self._typed
        return done

    def _function(self, kind: str) -> str:
        """A kind with a function key, for the help."""
        at = " at the mouse" if self.hand.places(kind) else ""
        return f"{kind}{at}{' with what is typed' if self.hand.speaks(kind) else ''}"

    def _act(self, kind: str, spots: Sequence[tuple[int, int]] = (), said: str = "") -> str:
        if not said or kind == "key":  # a tool takes what was typed; nothing else may pass it by
            self._ready()
        places = [self._place(kind, i, spot) for i, spot in enumerate(spots)]
        return self.session.act(self.hand.command(kind, places, said, self.session.text))

    def _ready(self) -> None:
        """Raises RefusedError where something was typed and waits."""
        if self._typed:
            raise RefusedError(f"enter sends {self._typed!r}, escape forgets it")

    def _pointed(self) -> tuple[int, int]:
        """Where the mouse is. Raises RefusedError where that is not on the picture."""
        if not self._inside(*self._mouse):
            raise RefusedError("the mouse must point at the picture")
        return self._mouse

    def _inside(self, x: int, y: int) -> bool:
        return 0 <= x < self.size[0] and 0 <= y < self.size[1]

    def _place(self, kind: str, index: int, spot: tuple[int, int]) -> Place:
        """The middle of a pixel of the picture, as the space counts places."""
        x, y = ((pixel + 0.5) / side for pixel, side in zip(spot, self.size, strict=True))
        return self.hand.place(kind, index, (x, y))


def _far(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) >= LEAST_DRAG
