"""A generated picture: pixels, and what the generator knows of the things in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

PATCH = 8
"""Height and width of a cell of the grid on which things are labelled, in pixels."""
BARE = -1
"""The label of a pixel or cell that shows no thing."""
Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels."""


@dataclass(frozen=True)
class Split:
    """What a set of pictures may show that training pictures may not."""

    combinations: bool = False
    """Each picture shows a pair of colour and shape that training never shows."""
    cameras: bool = False
    """Cameras stand where none does in training."""
    backgrounds: bool = False
    """Tables and floors have hues and patterns, and screens a look and a font, that training never shows."""
    words: bool = False
    """Screens show only words that training never shows."""
    sides: tuple[int, ...] = (96,)
    """Heights and widths of screens in pixels, each as likely."""
    table_sides: tuple[int, ...] = (64,)
    """The same of tables."""
    twins: float = 0.3
    """How often a thing of a table has the colour of another one, which its shape then tells it from."""
    carried: float = 0.0
    """How often an arm carries a thing, or has put it down at, on or in another one."""
    kits: float = 0.0
    """How often there are things that are used together: on a table `bodies.KITS`, on a screen a form or keys."""
    grids: float = 0.0
    """How often a screen has buttons in rows and columns, each of which can be named by its neighbours."""
    view: str = ""
    """The camera of all tables, one of `tables.VIEWS`; empty for the mixture."""
    familiar: float = 0.5
    """How often table, floor, light and camera are as in tabletop.xml, or nearly: where policies will act."""


@dataclass(frozen=True)
class View:
    """A pinhole camera: world position [3], rotation [3, 3] (columns: right, up, back), and pixels a unit slope."""

    position: np.ndarray
    rotation: np.ndarray
    focal: float
    """Half-heights of the image a unit of slope: 1 / tan(fovy / 2)."""

    def project(self, points: np.ndarray) -> np.ndarray:
        """World points [..., 3] in metres -> places [..., 2] in [-1, 1] where inside the image (x right, y down).

        Points behind the camera give NaN.
        """
        local = (np.asarray(points) - self.position) @ self.rotation
        depth = np.where(local[..., 2] < -1e-6, -local[..., 2], np.nan)
        return np.stack([local[..., 0], -local[..., 1]], -1) * (self.focal / depth[..., None])

    def on_plane(self, places: np.ndarray, height: np.ndarray) -> np.ndarray:
        """Places [..., 2] -> world points [..., 3] where their rays cross the horizontal plane at `height` [...]."""
        slope = np.stack([places[..., 0], -places[..., 1], np.full(places.shape[:-1], -self.focal)], -1)
        ray = slope @ self.rotation.T
        reach = (height - self.position[2]) / np.where(np.abs(ray[..., 2]) < 1e-9, 1e-9, ray[..., 2])
        return self.position + ray * reach[..., None]

    def metres(self, places: np.ndarray, height: np.ndarray) -> np.ndarray:
        """[..., 2, 2]: how far along the table at `height` the ray of a place moves for a step in x and in y."""
        step = 1e-3
        moves = [
            (self.on_plane(places + shift, height) - self.on_plane(places - shift, height))[..., :2] / (2 * step)
            for shift in np.eye(2) * step
        ]
        return np.stack(moves, -1)


@dataclass(frozen=True)
class Thing:
    """One thing of a picture that words can name."""

    colour: str
    """Empty for one that has none to be named by: a button whose lamp is out."""
    shape: str
    place: tuple[float, float]
    """Its centre in the image: x right, y down, each in [-1, 1]."""
    extent: tuple[float, float]
    """Half its width and half its height in the image, hidden parts included; in half images, in [0, 1]."""
    pixels: int
    """How many pixels show it."""
    height: float = 0.0
    """Of its centre above the table, metres (tables only)."""
    word: str = ""
    """What is written on it (screens only)."""
    name: str = ""
    """What is written beside it and names it: a field's, a slider's (screens only)."""


@dataclass(frozen=True)
class Picture:
    """uint8 pixels [side, side, 3], the things in it, and which thing each cell shows.

    `cells` int8 [(side / PATCH)^2], row by row: the index of the thing that covers most of the cell, or BARE;
    len(things) stands for the gripper's hand and fingers, or the cursor.
    `self_place`: the gripper's tip or the cursor, or None where the image shows none.
    """

    image: np.ndarray
    things: tuple[Thing, ...]
    cells: np.ndarray
    kind: str
    """`table` or `screen`."""
    camera: str = ""
    self_place: tuple[float, float] | None = None
    self_height: float = 0.0
    view: View | None = field(default=None, compare=False)


class Maker(ABC):
    """Draws random pictures of one kind.

    Args:
        split: what may be shown.
    """

    def __init__(self, split: Split = Split()) -> None:
        self.split = split

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Picture:
        """A random picture."""

    def close(self) -> None:  # noqa: B027 (most hold nothing)
        """Free what it holds."""


def cells_of(owner: np.ndarray, things: int, least: int = 3) -> np.ndarray:
    """int [side, side], the thing that each pixel shows (BARE: none) -> int8 [(side / PATCH)^2], that of each cell.

    A cell shows the thing with the most pixels in it, if those are at least `least`.
    """
    grid = len(owner) // PATCH
    blocks = owner.reshape(grid, PATCH, grid, PATCH).transpose(0, 2, 1, 3).reshape(grid * grid, PATCH * PATCH)
    counts = (blocks[:, :, None] == np.arange(things)).sum(1)
    if things == 0:
        return np.full(grid * grid, BARE, np.int8)
    best = counts.argmax(1)
    return np.where(counts.max(1) >= least, best, BARE).astype(np.int8)


def on_screen(
    image: np.ndarray, things: Sequence[Thing], owner: np.ndarray, self_place: tuple[float, float] | None
) -> Picture:
    """A picture of the kind `screen`; `owner` as of `cells_of`, len(things) where the cursor is."""
    pixels = np.bincount(owner[owner >= 0], minlength=len(things) + 1)[:-1]
    seen = tuple(replace(thing, pixels=int(count)) for thing, count in zip(things, pixels, strict=True))
    return Picture(image, seen, cells_of(owner, len(things) + 1), "screen", self_place=self_place)


def place_in(box: Box, side: int) -> tuple[float, float]:
    """The centre of a box in a picture of so many pixels, as `Thing.place`."""
    return (box[0] + box[2]) / side - 1, (box[1] + box[3]) / side - 1


def extent_in(box: Box, side: int) -> tuple[float, float]:
    """Half its width and height, as `Thing.extent`."""
    return (box[2] - box[0]) / side, (box[3] - box[1]) / side
