"""How screens look: colours, corners and fonts.

Training shows THEMES; HELD_OUT ones are kept to see what carries over.

Fonts are the files of `assets/gui/fonts`; `open-sans` belongs to held-out themes only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from vla_rl.registry import nearest

Colour = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""

SIZES = {"arimo": 9, "cousine": 9, "dejavu-sans": 8, "open-sans": 9, "roboto": 9, "tinos": 10}
"""The fonts, and the size of each in pixels at scale 1, so that all are about equally large."""
ANY, UNSEEN = "any", "held_out"
"""What may be asked for beside a theme's name: any training theme, any held-out one."""


@dataclass(frozen=True)
class Theme:
    """The look of a screen.

    desktop, window, title, face, field: the colours of what is large: behind windows, in them, of their title bars,
    of buttons, of what can be written into. title_ink, ink, faint: of titles, texts, and texts that matter less.
    edge: of lines around things. accent, accent_ink: of what is chosen, and of what is written on it. link: of links.
    radius: of corners, in pixels at scale 1. raised: whether edges look as if they stood out. buttons: what the
    title bar ends or begins with. centred: titles. fonts: those that an episode draws one of.
    """

    name: str
    desktop: Colour
    window: Colour
    title: Colour
    title_ink: Colour
    face: Colour
    field: Colour
    ink: Colour
    faint: Colour
    edge: Colour
    accent: Colour
    accent_ink: Colour
    link: Colour
    radius: int = 0
    raised: bool = False
    buttons: Literal["boxes", "dots", "cross", "none"] = "cross"
    centred: bool = False
    fonts: tuple[str, ...] = ("arimo", "dejavu-sans")

    @property
    def dark(self) -> bool:
        """Whether windows are darker than their text."""
        return sum(self.window) < sum(self.ink)


THEMES: dict[str, Theme] = {
    theme.name: theme
    for theme in (
        Theme(
            "classic",
            desktop=(58, 110, 165), window=(212, 208, 200), title=(10, 36, 106), title_ink=(255, 255, 255),
            face=(212, 208, 200), field=(255, 255, 255), ink=(0, 0, 0), faint=(96, 96, 96), edge=(64, 64, 64),
            accent=(10, 36, 106), accent_ink=(255, 255, 255), link=(0, 0, 200),
            raised=True, buttons="boxes", fonts=("arimo", "dejavu-sans"),
        ),
        Theme(
            "light",
            desktop=(214, 224, 236), window=(250, 250, 251), title=(250, 250, 251), title_ink=(50, 50, 56),
            face=(233, 235, 239), field=(255, 255, 255), ink=(32, 34, 38), faint=(118, 122, 130), edge=(176, 181, 190),
            accent=(0, 103, 192), accent_ink=(255, 255, 255), link=(0, 92, 178),
            radius=3, buttons="cross", fonts=("roboto", "arimo"),
        ),
        Theme(
            "dark",
            desktop=(18, 20, 26), window=(37, 40, 48), title=(28, 30, 37), title_ink=(226, 228, 234),
            face=(62, 67, 79), field=(24, 26, 32), ink=(230, 232, 238), faint=(150, 156, 168), edge=(92, 98, 112),
            accent=(76, 141, 255), accent_ink=(255, 255, 255), link=(122, 174, 255),
            radius=3, buttons="cross", fonts=("roboto", "dejavu-sans"),
        ),
        Theme(
            "material",
            desktop=(236, 232, 244), window=(255, 251, 254), title=(103, 80, 164), title_ink=(255, 255, 255),
            face=(232, 222, 248), field=(243, 238, 248), ink=(29, 27, 32), faint=(110, 104, 122), edge=(160, 152, 172),
            accent=(103, 80, 164), accent_ink=(255, 255, 255), link=(103, 80, 164),
            radius=5, buttons="none", fonts=("roboto",),
        ),
        Theme(
            "aqua",
            desktop=(92, 122, 178), window=(236, 236, 236), title=(216, 216, 218), title_ink=(62, 62, 64),
            face=(255, 255, 255), field=(255, 255, 255), ink=(38, 38, 40), faint=(122, 122, 126), edge=(178, 178, 182),
            accent=(10, 122, 255), accent_ink=(255, 255, 255), link=(8, 98, 208),
            radius=4, buttons="dots", centred=True, fonts=("arimo", "roboto"),
        ),
        Theme(
            "contrast",
            desktop=(0, 0, 0), window=(0, 0, 0), title=(255, 222, 40), title_ink=(0, 0, 0),
            face=(0, 0, 0), field=(0, 0, 0), ink=(255, 255, 255), faint=(210, 210, 210), edge=(255, 255, 255),
            accent=(255, 222, 40), accent_ink=(0, 0, 0), link=(255, 222, 40),
            buttons="cross", fonts=("dejavu-sans", "cousine"),
        ),
        Theme(
            "paper",
            desktop=(222, 210, 186), window=(251, 246, 234), title=(238, 228, 206), title_ink=(72, 54, 34),
            face=(240, 231, 212), field=(255, 253, 247), ink=(58, 44, 30), faint=(132, 114, 92), edge=(174, 154, 124),
            accent=(146, 72, 34), accent_ink=(255, 250, 240), link=(146, 60, 24),
            radius=1, buttons="none", centred=True, fonts=("tinos", "cousine"),
        ),
    )
}  # fmt: skip
"""What training may show."""
HELD_OUT: dict[str, Theme] = {
    theme.name: theme
    for theme in (
        Theme(
            "slate",
            desktop=(46, 52, 64), window=(67, 76, 94), title=(59, 66, 82), title_ink=(236, 239, 244),
            face=(94, 105, 128), field=(46, 52, 64), ink=(236, 239, 244), faint=(178, 186, 202), edge=(128, 140, 164),
            accent=(136, 192, 208), accent_ink=(30, 36, 48), link=(143, 208, 224),
            radius=2, buttons="dots", fonts=("open-sans",),
        ),
        Theme(
            "mint",
            desktop=(134, 186, 178), window=(240, 248, 246), title=(36, 122, 108), title_ink=(255, 255, 255),
            face=(214, 234, 229), field=(255, 255, 255), ink=(20, 48, 44), faint=(92, 124, 118), edge=(132, 172, 164),
            accent=(36, 122, 108), accent_ink=(255, 255, 255), link=(20, 104, 92),
            radius=4, raised=False, buttons="boxes", fonts=("open-sans",),
        ),
    )
}  # fmt: skip
"""What it may not."""


def check(name: str) -> str:
    """`name` itself. Raises ValueError, naming the nearest, for one that means no theme."""
    known = (ANY, UNSEEN, *THEMES, *HELD_OUT)
    if name not in known:
        raise ValueError(f"theme: {name!r} is unknown; {nearest(name, known)}")
    return name


def draw(name: str, rng: np.random.Generator) -> tuple[Theme, str]:
    """A theme that `name` means, and one of its fonts."""
    among = {ANY: THEMES, UNSEEN: HELD_OUT}.get(name) or {name: (THEMES | HELD_OUT)[name]}
    theme = list(among.values())[int(rng.integers(len(among)))]
    return theme, theme.fonts[int(rng.integers(len(theme.fonts)))]
