"""The words and looks of generated pictures: colours, shapes, screen widgets, and what is held out of training."""

from __future__ import annotations

import colorsys

import numpy as np

COLOURS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    # name: ranges of hue (a turn = 1), saturation and value
    "red": ((-0.025, 0.02), (0.72, 1.0), (0.6, 1.0)),
    "orange": ((0.06, 0.095), (0.8, 1.0), (0.85, 1.0)),
    "yellow": ((0.135, 0.17), (0.65, 1.0), (0.8, 1.0)),
    "green": ((0.28, 0.41), (0.55, 1.0), (0.4, 0.9)),
    "cyan": ((0.475, 0.53), (0.5, 1.0), (0.7, 1.0)),
    "blue": ((0.58, 0.675), (0.65, 1.0), (0.55, 1.0)),
    "purple": ((0.735, 0.81), (0.5, 1.0), (0.42, 0.85)),
    "pink": ((0.87, 0.95), (0.35, 0.65), (0.85, 1.0)),
    "brown": ((0.04, 0.085), (0.5, 0.75), (0.28, 0.48)),
    "white": ((0.0, 1.0), (0.0, 0.06), (0.92, 1.0)),
    "black": ((0.0, 1.0), (0.0, 0.2), (0.03, 0.13)),
    "gray": ((0.0, 1.0), (0.0, 0.08), (0.4, 0.6)),
}
UNLIT = ((0.55, 0.75), (0.0, 0.2), (0.14, 0.22))
"""The same of a lamp that is out: neither black nor gray."""
COLOUR_WORDS = {"gray": ("gray", "grey"), "purple": ("purple", "violet"), "pink": ("pink", "magenta")}

SOLIDS = ("cube", "ball", "cylinder", "bar", "capsule", "egg", "plate", "tray")
MARKS = ("mark", "pad")
FIXTURES = ("button", "drawer", "peg", "socket")
"""What stands on a table to be used: words that stand for any solid thing ("block") do not mean these."""
TABLE_SHAPES = SOLIDS + MARKS + FIXTURES
SCREEN_SHAPES = (
    "button", "field", "checkbox", "radio", "label", "link", "slider", "progress", "menu", "row", "tab", "window",
    "file", "circle", "square", "triangle", "diamond", "bar",
)  # fmt: skip
SHAPES = tuple(dict.fromkeys(TABLE_SHAPES + SCREEN_SHAPES))
SHAPE_WORDS = {
    "cube": ("cube", "block", "box"),
    "ball": ("ball", "sphere"),
    "cylinder": ("cylinder", "can"),
    "bar": ("bar", "stick"),
    "capsule": ("capsule", "pill"),
    "egg": ("egg", "ellipsoid"),
    "plate": ("plate", "slab"),
    "tray": ("tray", "bin"),
    "mark": ("mark", "spot", "disc", "target"),
    "pad": ("pad", "patch", "tile"),
    "field": ("field", "text field", "input", "box"),
    "checkbox": ("checkbox", "check box"),
    "radio": ("radio", "radio button", "option"),
    "progress": ("progress bar", "progress"),
    "menu": ("menu", "item", "menu item"),
    "row": ("row", "line", "entry"),
    "file": ("file", "document"),
    "circle": ("circle", "dot"),
    "peg": ("peg", "pin"),
    "socket": ("socket", "hole"),
}
GRIPPER = "gripper"
GRIPPER_WORDS = ("the gripper", "the robot", "the hand", "the arm")
CURSOR = "cursor"
CURSOR_WORDS = ("the cursor", "the mouse", "the pointer")

WORDS = (
    "ok", "cancel", "save", "open", "next", "back", "send", "login", "submit", "yes", "no", "home",
    "help", "menu", "edit", "copy", "stop", "start", "play", "mail", "search", "delete", "close", "name",
)  # fmt: skip

HELD_OUT_COMBINATIONS = frozenset(
    {
        ("gray", "cube"), ("black", "ball"), ("white", "cylinder"), ("brown", "bar"), ("white", "mark"),
        ("yellow", "capsule"), ("cyan", "capsule"), ("red", "egg"), ("pink", "egg"), ("green", "plate"),
        ("purple", "tray"), ("blue", "pad"), ("orange", "pad"),
        ("gray", "button"), ("white", "drawer"), ("brown", "peg"), ("black", "socket"),
        ("red", "triangle"), ("yellow", "circle"), ("green", "diamond"),
        ("blue", "square"), ("cyan", "triangle"), ("pink", "circle"),
    }
)  # fmt: skip
"""Pairs of colour and shape that no training picture shows."""

HELD_OUT_HUES = (0.42, 0.56)
"""Tables and floors of these hues (teal) appear in no training picture; nor do checkered ones."""
HELD_OUT_AZIMUTHS = (100.0, 200.0)
"""Cameras from these directions, in degrees from the front seen from above, appear in no training picture."""


def colour_words(colour: str) -> tuple[str, ...]:
    """Every word for a colour."""
    return COLOUR_WORDS.get(colour, (colour,))


def shape_words(shape: str) -> tuple[str, ...]:
    """Every word for a shape."""
    return SHAPE_WORDS.get(shape, (shape,))


def paint(colour: str, rng: np.random.Generator) -> np.ndarray:
    """A random shade of a named colour, of UNLIT for "": float [3] in [0, 1], red, green, blue."""
    hue, saturation, value = (rng.uniform(*bounds) for bounds in (COLOURS[colour] if colour else UNLIT))
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, saturation, value))


def allowed(colour: str, shape: str, held_out: bool) -> bool:
    """Whether a thing may be `colour` and `shape` in a training picture, or in one `held_out`."""
    return held_out or (colour, shape) not in HELD_OUT_COMBINATIONS
