"""From gestures to the events of mouse and keyboard that Chromium takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sims.screen.interaction import Gesture

Event = tuple[str, dict[str, Any]]
"""A command of the DevTools protocol and its parameters."""

PIECES = 4
"""A drag moves in so many pieces, since pages watch the way and not only its end."""
CONTROL, SHIFT = 2, 8
_ROWS = "`1234567890-=[]\\;',./", '~!@#$%^&*()_+{}|:"<>?'
"""What the keys beside the letters' write, on a keyboard of the United States, without and with shift."""
_PLACES = "Backquote Minus Equal BracketLeft BracketRight Backslash Semicolon Quote Comma Period Slash Space"
_NAMED = dict(zip("`-=[]\\;',./ ", _PLACES.split(" "), strict=True))
_VIRTUAL = dict(zip("`-=[]\\;',./", (192, 189, 187, 219, 221, 220, 186, 222, 188, 190, 191), strict=True))
_CODES = {
    "Enter": 13,
    "Tab": 9,
    "Backspace": 8,
    "Delete": 46,
    "Escape": 27,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
}


def events(gesture: Gesture, wheel: float) -> list[Event]:
    """What happens, in order, for a gesture whose places are in pixels of the page; a scroll turns `wheel` pixels."""
    x, y = gesture.at or (0.0, 0.0)
    if gesture.kind in ("click", "double_click"):
        times = (1, 2) if gesture.kind == "double_click" else (1,)
        presses = [_mouse(what, x, y, held=1, clicks=n) for n in times for what in ("mousePressed", "mouseReleased")]
        return [_mouse("mouseMoved", x, y), *presses]
    if gesture.kind == "drag":
        return list(_drag((x, y), gesture.to or (x, y)))
    if gesture.kind in ("scroll_up", "scroll_down"):
        turned = wheel if gesture.kind == "scroll_down" else -wheel
        return [_mouse("mouseMoved", x, y), _mouse("mouseWheel", x, y, deltaX=0, deltaY=turned)]
    if gesture.kind in ("type", "write"):
        return [event for letter in gesture.text for event in _letter(letter)]
    return list(_key(gesture.key)) if gesture.kind == "key" else []


def away() -> list[Event]:
    """The mouse leaves for the top left corner."""
    return [_mouse("mouseMoved", 0.0, 0.0)]


def _mouse(what: str, x: float, y: float, held: int = 0, clicks: int = 0, **more: Any) -> Event:
    button = {"button": "left" if held else "none", "buttons": held if what != "mouseReleased" else 0}
    return "Input.dispatchMouseEvent", {"type": what, "x": x, "y": y, "clickCount": clicks, **button, **more}


def _drag(start: tuple[float, float], end: tuple[float, float]) -> Iterator[Event]:
    yield _mouse("mouseMoved", *start)
    yield _mouse("mousePressed", *start, held=1, clicks=1)
    for piece in range(1, PIECES + 1):
        x, y = (a + piece / PIECES * (b - a) for a, b in zip(start, end, strict=True))
        yield _mouse("mouseMoved", x, y, held=1)
    yield _mouse("mouseReleased", *end, held=1, clicks=1)


def _letter(letter: str) -> Iterator[Event]:
    """Keys as they are pressed, so that a page hears of them; what no key writes is put in as text."""
    if not letter.isascii():
        yield "Input.insertText", {"text": letter}
        return
    plain = letter.lower().translate(str.maketrans(_ROWS[1], _ROWS[0]))
    code = f"Key{plain.upper()}" if plain.isalpha() else _NAMED.get(plain, f"Digit{plain}")
    known = {"key": letter, "code": code, "windowsVirtualKeyCode": _VIRTUAL.get(plain, ord(plain.upper()))}
    known |= {"modifiers": SHIFT} if letter != plain else {}
    yield "Input.dispatchKeyEvent", {"type": "keyDown", "text": letter, "unmodifiedText": plain, **known}
    yield "Input.dispatchKeyEvent", {"type": "keyUp", **known}


def _key(name: str) -> Iterator[Event]:
    if name == "SelectAll":
        known: dict[str, Any] = {"key": "a", "code": "KeyA", "windowsVirtualKeyCode": 65, "modifiers": CONTROL}
        yield "Input.dispatchKeyEvent", {"type": "rawKeyDown", "commands": ["selectAll"], **known}
    else:
        known = {"key": name, "code": name, "windowsVirtualKeyCode": _CODES[name]}
        text = "\r" if name == "Enter" else ""
        yield "Input.dispatchKeyEvent", {"type": "keyDown" if text else "rawKeyDown", "text": text, **known}
    yield "Input.dispatchKeyEvent", {"type": "keyUp", **known}
