"""Phrases that mention one thing of a picture, or one that is not there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from sims.grounding.picture import Picture, Thing
from sims.vocabulary import (
    COLOURS,
    HELD_OUT_COMBINATIONS,
    SCREEN_SHAPES,
    SOLIDS,
    TABLE_SHAPES,
    colour_words,
    shape_words,
)

T = TypeVar("T")

LEAST_PIXELS = 4
"""A thing shown by fewer pixels is not named."""
LOOKALIKES = 0.6
"""How often something that is there is like a thing that is not."""
RELATIONS = 0.1
"""How often a thing of a screen is mentioned by what it stands beside, where it can be, unless told otherwise."""
NOTHING = -1
"""The anchor of a phrase that names no other thing."""
SIDES = {
    "left of": (-1, 0), "to the left of": (-1, 0), "right of": (1, 0), "to the right of": (1, 0),
    "above": (0, -1), "over": (0, -1), "below": (0, 1), "under": (0, 1),
}  # fmt: skip
WAYS = tuple(dict.fromkeys(SIDES.values()))
"""The four ways from a thing to what stands beside it, of which each side of SIDES is one."""
ONE = "one"
_GENERIC = ("thing", "object", ONE, "item")


@dataclass(frozen=True)
class Phrase:
    """Words that mention a thing, and which colour, shape and written word they name; "" for what they leave open.

    anchor: the thing beside which they say that it stands, NOTHING for none; then the rest is said of that one.
    side: on which side of it, one of SIDES; "" where they say none.
    """

    text: str
    colour: str = ""
    shape: str = ""
    word: str = ""
    anchor: int = NOTHING
    side: str = ""


def names_of(picture: Picture, index: int) -> list[Phrase]:
    """Phrases of colour and shape, without article, that hold for one thing of the picture and for no other."""
    thing, others = picture.things[index], [t for i, t in enumerate(picture.things) if i != index]
    same_shape = any(o.shape == thing.shape for o in others)
    alone = [] if same_shape else [Phrase(s, "", thing.shape) for s in shape_words(thing.shape)]
    colour = thing.colour
    if not colour:
        return alone if picture.kind == "screen" else []
    names = []
    if not any((o.colour, o.shape) == (colour, thing.shape) for o in others):
        both = [(c, s) for c in colour_words(colour) for s in shape_words(thing.shape)]
        names += 3 * [Phrase(f"{c} {s}", colour, thing.shape if s != "block" else "") for c, s in both]
    if not any(o.colour == colour for o in others):
        names += [Phrase(f"{c} {g}", colour) for c in colour_words(colour) for g in _GENERIC]
    if (
        picture.kind == "table"
        and thing.shape in SOLIDS
        and not any(o.colour == colour for o in others if o.shape in SOLIDS)
    ):
        names += 2 * [Phrase(f"{c} block", colour) for c in colour_words(colour)]
    return names + alone


def written(picture: Picture, index: int) -> list[Phrase]:
    """Phrases that name a thing by what is written on it, or, where that says nothing, beside it."""
    thing = picture.things[index]
    word = thing.name or thing.word
    same = [o for i, o in enumerate(picture.things) if i != index and word and word in (o.word, o.name)]
    labels = [o for o in same if o.shape == "label"]
    named = [o for o in same if o.name == word]  # which a label stands beside
    if not word or len(same) > len(labels if thing.name else named if thing.shape == "label" else []):
        return []
    # A slider's knob may be anywhere beside its name, so that its name has to be found first.
    anchor = picture.things.index(labels[0]) if labels and thing.shape == "slider" else NOTHING
    nouns = shape_words(thing.shape)
    full = [
        Phrase(f"the {a} {b}", "", thing.shape, word, anchor) for noun in nouns for a, b in ((noun, word), (word, noun))
    ]
    if thing.shape == "label" and named:
        return full
    texts = (word, word) if thing.name else (word, word, f"'{word}'", f'"{word}"')
    return [Phrase(text, "", "", word, anchor) for text in texts] + full


def nameable(picture: Picture, only: Callable[[Thing], bool] = lambda thing: True) -> list[int]:
    """The things that can be named, are shown, and satisfy `only`."""
    return [
        i
        for i, thing in enumerate(picture.things)
        if visible(thing) and only(thing) and (names_of(picture, i) or written(picture, i))
    ]


def visible(thing: Thing) -> bool:
    """Whether a thing can be seen."""
    return thing.pixels >= LEAST_PIXELS and max(map(abs, thing.place)) < 1


def name(picture: Picture, index: int, rng: np.random.Generator, relations: float = RELATIONS) -> Phrase:
    """A phrase for one thing."""
    beside = _beside_another(picture, index, rng) if picture.kind == "screen" and rng.random() < relations else None
    return beside or plainly(picture, index, rng)


def plainly(picture: Picture, index: int, rng: np.random.Generator) -> Phrase:
    """A phrase for one thing by its own looks and words."""
    words, names = written(picture, index), names_of(picture, index)
    if words and (not names or rng.random() < 0.6):
        return one_of(words, rng)
    phrase = one_of(names, rng)
    return phrase if rng.random() < 0.12 else _the(phrase)


def absent(picture: Picture, rng: np.random.Generator, words: tuple[str, ...]) -> Phrase:
    """A phrase for a thing that the picture does not show; `words`: what could be written on it."""
    shapes = TABLE_SHAPES if picture.kind == "table" else SCREEN_SHAPES
    shown = {(thing.colour, thing.shape) for thing in picture.things}
    dark = unlit(picture)
    while True:
        if picture.kind == "screen" and rng.random() < 0.6:
            word = one_of(words, rng)
            if all(word not in (thing.word, thing.name) for thing in picture.things):
                return Phrase(f"'{word}'" if rng.random() < 0.4 else word, "", "", word)
            continue
        colour, shape = one_of(tuple(COLOURS), rng), one_of(shapes, rng)
        if dark and rng.random() < LOOKALIKES:  # it would be this one, were its lamp on
            shape = "button"
        elif picture.things and rng.random() < LOOKALIKES:  # half of it is there: the colour, or the shape
            like = picture.things[rng.integers(len(picture.things))]
            colour, shape = (like.colour, shape) if like.colour and rng.random() < 0.5 else (colour, like.shape)
        if (colour, shape) not in shown and (colour, shape) not in HELD_OUT_COMBINATIONS:
            # A "block" may be any solid thing of the colour.
            nouns = tuple(word for word in shape_words(shape) if word != "block")
            if dark and all(thing.colour != colour for thing in picture.things):
                nouns += (ONE,)
            noun = one_of(nouns, rng)
            text = f"the {one_of(colour_words(colour), rng)} {noun}"
            return Phrase(text, colour, "" if noun == ONE else shape)


def unlit(picture: Picture) -> bool:
    """Whether it shows a button whose lamp is out."""
    return picture.kind == "table" and any(not thing.colour for thing in picture.things)


def beside(picture: Picture, index: int, way: tuple[int, int], shown: list[int]) -> int | None:
    """The one thing that is clearly on that side of another and nearest to it; None where that is arguable."""
    origin = np.array(picture.things[index].place)
    found = []
    for i in shown:
        offset = np.array(picture.things[i].place) - origin
        along, aside = float(offset @ way), float(np.abs(offset @ way[::-1]))
        if i != index and along > 0.08 and along > 1.2 * aside:
            found.append((float(np.hypot(along, aside)), i))
        elif i != index and along > 0.05 and along > 0.8 * aside:
            return None
    found.sort()
    if not found or (len(found) > 1 and found[1][0] < 1.25 * found[0][0]):
        return None
    return found[0][1]


def neighbour(picture: Picture, index: int, way: tuple[int, int], shown: list[int]) -> int | None:
    """The nearest thing on that side of another among those in line with it, whose sides overlap by half; where none
    is in line, the one that `beside` finds.
    """
    thing, across = picture.things[index], int(way[0] != 0)
    found = []
    for i in shown:
        other = picture.things[i]
        offset = np.array(other.place) - np.array(thing.place)
        overlap = thing.extent[across] + other.extent[across] - abs(float(offset[across]))
        if i != index and offset @ way > 0.05 and overlap > min(thing.extent[across], other.extent[across]):
            found.append((float(offset @ way), i))
    if not found:
        return beside(picture, index, way, shown)
    found.sort()
    return None if len(found) > 1 and found[1][0] < 1.25 * found[0][0] else found[0][1]


def _beside_another(picture: Picture, index: int, rng: np.random.Generator) -> Phrase | None:
    """The thing, by what it stands beside: among those of its shape, which are what the phrase speaks of."""
    thing = picture.things[index]
    alike = [i for i, other in enumerate(picture.things) if other.shape == thing.shape and visible(other)]
    for anchor in rng.permutation([i for i in alike if i != index and plain_names(picture, i)]):
        sides = [side for side, way in SIDES.items() if neighbour(picture, int(anchor), way, alike) == index]
        if sides:
            noun = one_of((*shape_words(thing.shape), ONE, "what is"), rng)
            other = plainly(picture, int(anchor), rng)
            side = one_of(sides, rng)
            text = f"{'the ' if noun != 'what is' else ''}{noun} {side} {other.text}"
            return replace(other, text=text, anchor=int(anchor), side=side)
    return None


def plain_names(picture: Picture, index: int) -> list[Phrase]:
    """All phrases for a thing by its own looks and words."""
    return names_of(picture, index) + written(picture, index)


def _the(phrase: Phrase) -> Phrase:
    return replace(phrase, text=f"the {phrase.text}")


def one_of(options: tuple[T, ...] | list[T], rng: np.random.Generator) -> T:
    """One of these, each as likely."""
    return options[rng.integers(len(options))]
