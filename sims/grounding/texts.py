"""Instructions and questions on a picture, and what they mean in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sims.grounding.picture import Picture, Thing
from sims.grounding.vocabulary import (
    COLOURS,
    CURSOR_WORDS,
    GRIPPER_WORDS,
    HELD_OUT_COMBINATIONS,
    MARKS,
    SCREEN_SHAPES,
    SHAPES,
    SOLIDS,
    TABLE_SHAPES,
    WORDS,
    colour_words,
    shape_words,
)

ABSENT = -1
"""The mention of a thing that the picture does not show."""
LEAST_PIXELS = 4
"""A thing shown by fewer pixels is not named."""
ABSENCES, LOOKALIKES = 0.12, 0.6
"""How often an instruction mentions a thing that is not there, and how often something there is like it."""
UNLIT_ABSENCES = 0.4
"""The former where a button's lamp is out: it may be the one that is meant, but cannot be told by its colour."""
LOCATIONS = 32
"""Location tokens along an axis of the image."""
TASKS = ("point", "colour", "shape", "word", "relation", "location")

_ONE = (
    "reach {0}", "reach for {0}", "touch {0}", "go to {0}", "move to {0}", "move the gripper to {0}",
    "put the gripper on {0}", "bring the arm to {0}", "point to {0}", "point at {0}", "find {0}", "show me {0}",
    "where is {0}?", "look at {0}", "get to {0}", "approach {0}", "tap {0}", "hover over {0}", "grasp {0}",
    "grab {0}", "pick up {0}", "pick {0}", "lift {0}", "take {0}", "press {0}", "hold {0}", "{0}",
    "push {0}", "push {0} away", "push {0} to the left", "slide {0} to the right", "knock over {0}",
    "open {0}", "pull {0} open", "pull out {0}", "raise {0}", "hit {0}",
)  # fmt: skip
_VERBS_TWO = ("push", "put", "slide", "move", "place", "drag", "bring", "take", "shove", "carry", "get", "set")
_LINKS = ("to", "onto", "on", "into", "in", "towards", "next to", "on top of", "over to", "beside")
_TWO = (
    "pick up {0} and put it on {1}", "pick {0} and place it in {1}", "take {0} and drop it onto {1}",
    "grab {0} and move it to {1}", "point to {0} and {1}", "touch {0} then {1}", "reach {0}, then {1}",
    "stack {0} on {1}", "find {0} and {1}", "{0} to {1}", "use {0} to push {1}", "go from {0} to {1}",
    "insert {0} into {1}", "plug {0} into {1}", "fit {0} in {1}", "put {0} inside {1}", "open {0} and put {1} inside",
    "open {0}, put {1} into it",
)  # fmt: skip
_MANY = ("point to {0}", "touch {0}", "find {0}", "show me {0}", "where are {0}?", "point at {0}", "reach {0}")
_IN_ORDER = ("press {0}", "push {0}", "hit {0}", "touch {0}", "reach {0}", "point to {0}")
_LINKS_IN_ORDER = (", then ", " and then ", ", next ")
_THREE = (
    "open {0}, put {1} into it and press {2}", "open {0}, place {1} inside, then push {2}",
    "pull {0} open, drop {1} in, then press {2}", "put {0} on {1}, then {2}",
)  # fmt: skip
_CLICK = (
    "click {0}", "click on {0}", "press {0}", "tap {0}", "point to {0}", "select {0}", "find {0}", "choose {0}",
    "where is {0}?", "go to {0}", "move to {0}", "move the cursor to {0}", "hover over {0}", "open {0}",
)  # fmt: skip
_CLICK_TWO = (
    "drag {0} to {1}", "click {0} then {1}", "drag {0} onto {1}", "move {0} to {1}", "point to {0} and {1}",
    "click {0} and press {1}", "select {0}, then click {1}",
)  # fmt: skip
_TAILS = {
    "table": ("", "", "", "", "", "", "", " please", ".", " now", " with the gripper", " carefully"),
    "screen": ("", "", "", "", "", "", "", " please", ".", " now", " with the mouse", " once"),
}
_WHERE = ("where is {0}?", "where do you see {0}?", "locate {0}", "what is the place of {0}?")
_COLOUR = ("what colour is {0}?", "what color is {0}?", "which colour is {0}?", "which color does {0} have?")
_SHAPE = ("what shape is {0}?", "which shape is {0}?", "what is {0}?", "what kind of thing is {0}?")
_WORD = ("what is written on {0}?", "what does {0} say?", "read {0}", "which word is on {0}?")
_RELATION = ("what is {side} {0}?", "which thing is {side} {0}?", "what do you see {side} {0}?")
_SIDES = {
    "left of": (-1, 0), "to the left of": (-1, 0), "right of": (1, 0), "to the right of": (1, 0),
    "above": (0, -1), "below": (0, 1), "under": (0, 1),
}  # fmt: skip

_COLOUR_OF = {word: colour for colour in COLOURS for word in colour_words(colour)}
_SHAPE_OF = {word: shape for shape in SHAPES for word in shape_words(shape) if word != "block"}
"""Without "block", which may stand for any solid thing."""


@dataclass(frozen=True)
class Sample:
    """A text, and what it means in its picture.

    `mentions`: for each thing mentioned, in order, its index or ABSENT. `phrases`: the words that mention it.
    `answer`: the text of the answer, empty for a mere instruction. `referent`: the place [2] that the answer is
    about, or None.
    """

    text: str
    mentions: tuple[int, ...]
    phrases: tuple[str, ...]
    task: str = "point"
    answer: str = ""
    referent: tuple[float, float] | None = None


def names_of(picture: Picture, index: int) -> list[str]:
    """Phrases without article that hold for one thing of the picture and for no other; empty if there are none."""
    thing, others = picture.things[index], [t for i, t in enumerate(picture.things) if i != index]
    names: list[str] = []
    if not thing.colour:
        return names
    if not any((o.colour, o.shape) == (thing.colour, thing.shape) for o in others):
        names += 3 * [f"{c} {s}" for c in colour_words(thing.colour) for s in shape_words(thing.shape)]
    if not any(o.colour == thing.colour for o in others):
        names += [f"{c} {g}" for c in colour_words(thing.colour) for g in ("thing", "object", "one", "item")]
    if (
        picture.kind == "table"
        and thing.shape in SOLIDS
        and not any(o.colour == thing.colour for o in others if o.shape in SOLIDS)
    ):
        names += 2 * [f"{c} block" for c in colour_words(thing.colour)]
    if not any(o.shape == thing.shape for o in others):
        names += shape_words(thing.shape)
    return names


def written(picture: Picture, index: int) -> list[str]:
    """Phrases that name a thing by what is written on it."""
    thing = picture.things[index]
    if not thing.word or sum(other.word == thing.word for other in picture.things) > 1:
        return []
    return [
        thing.word,
        f"'{thing.word}'",
        f'"{thing.word}"',
        f"the {thing.shape} {thing.word}",
        f"the word {thing.word}",
    ]


def spoken(phrase: str) -> tuple[str, str, str]:
    """The colour, the shape and the written word that a phrase names, "" for what it leaves open."""
    words = re.sub("[^a-z ]", "", phrase).split()
    colour = next((_COLOUR_OF[word] for word in words if word in _COLOUR_OF), "")
    shape = next((_SHAPE_OF[word] for word in words if word in _SHAPE_OF), "")
    return colour, shape, next((word for word in words if word in WORDS), "")


def nameable(picture: Picture, only: Callable[[Thing], bool] = lambda thing: True) -> list[int]:
    """The things that can be named, are shown, and satisfy `only`."""
    return [
        i
        for i, thing in enumerate(picture.things)
        if thing.pixels >= LEAST_PIXELS
        and max(map(abs, thing.place)) < 1
        and only(thing)
        and (names_of(picture, i) or written(picture, i))
    ]


def name(picture: Picture, index: int, rng: np.random.Generator) -> str:
    """A phrase for one thing."""
    words = written(picture, index)
    names = names_of(picture, index)
    if words and (not names or rng.random() < 0.5):
        return _one_of(words, rng)
    phrase = _one_of(names, rng)
    return phrase if rng.random() < 0.12 else f"the {phrase}"


def absent(picture: Picture, rng: np.random.Generator) -> str:
    """A phrase for a thing that the picture does not show."""
    shapes = TABLE_SHAPES if picture.kind == "table" else SCREEN_SHAPES
    shown = {(thing.colour, thing.shape) for thing in picture.things}
    unlit = _unlit(picture)
    while True:
        if picture.kind == "screen" and rng.random() < 0.4:
            word = _one_of(WORDS, rng)
            if all(thing.word != word for thing in picture.things):
                return f"'{word}'"
            continue
        colour, shape = _one_of(tuple(COLOURS), rng), _one_of(shapes, rng)
        if unlit and rng.random() < LOOKALIKES:  # it would be this one, were its lamp on
            shape = "button"
        elif picture.things and rng.random() < LOOKALIKES:  # half of it is there: the colour, or the shape
            like = picture.things[rng.integers(len(picture.things))]
            colour, shape = (like.colour or colour, shape) if rng.random() < 0.5 else (colour, like.shape)
        if (colour, shape) not in shown and (colour, shape) not in HELD_OUT_COMBINATIONS:
            # A "block" may be any solid thing of the colour.
            words = tuple(word for word in shape_words(shape) if word != "block")
            if unlit and all(thing.colour != colour for thing in picture.things):
                words += ("one",)
            return f"the {_one_of(colour_words(colour), rng)} {_one_of(words, rng)}"


def _unlit(picture: Picture) -> bool:
    """Whether it shows a button whose lamp is out."""
    return any(not thing.colour for thing in picture.things)


def instruct(picture: Picture, rng: np.random.Generator, focus: int | None = None) -> Sample | None:
    """An instruction that mentions one to four things (`focus` among them); None if nothing can be named."""
    choices = nameable(picture)
    if not choices or (focus is not None and focus not in choices):
        return None
    count = min(int(rng.choice([1, 2, 3, 4], p=[0.42, 0.42, 0.1, 0.06])), len(choices))
    picked = [choices[i] for i in rng.permutation(len(choices))[:count]]
    if focus is not None and focus not in picked:
        picked[0] = focus
    if count == 2 and picture.kind == "table" and rng.random() < 0.6:
        picked.sort(
            key=lambda i: picture.things[i].shape in (*MARKS, "tray", "plate", "socket", "drawer")
        )  # things go onto marks
    phrases = [name(picture, i, rng) for i in picked]
    if focus is None and rng.random() < (UNLIT_ABSENCES if _unlit(picture) else ABSENCES):
        lost = int(rng.integers(count))
        picked[lost], phrases[lost] = ABSENT, absent(picture, rng)
    return Sample(_phrase(picture.kind, phrases, rng), tuple(picked), tuple(phrases))


def _phrase(kind: str, phrases: list[str], rng: np.random.Generator) -> str:
    if len(phrases) == 1:
        text = _one_of(_ONE if kind == "table" else _CLICK, rng).format(*phrases)
    elif len(phrases) == 2 and kind == "screen":
        text = _one_of(_CLICK_TWO, rng).format(*phrases)
    elif len(phrases) == 2 and rng.random() < 0.6:
        text = f"{_one_of(_VERBS_TWO, rng)} {phrases[0]} {_one_of(_LINKS, rng)} {phrases[1]}"
    elif len(phrases) == 2:
        text = _one_of(_TWO, rng).format(*phrases)
    elif len(phrases) == 3 and kind == "table" and rng.random() < 0.3:
        text = _one_of(_THREE, rng).format(*phrases)
    elif kind == "table" and rng.random() < 0.5:
        text = _one_of(_IN_ORDER, rng).format(_one_of(_LINKS_IN_ORDER, rng).join(phrases))
    else:
        text = _one_of(_MANY, rng).format(", ".join(phrases[:-1]) + " and " + phrases[-1])
    text += _one_of(_TAILS[kind], rng) if not text.endswith("?") else ""
    return text[0].upper() + text[1:] if rng.random() < 0.15 else text


def ask(picture: Picture, task: str, rng: np.random.Generator, focus: int | None = None) -> Sample | None:
    """A question of one of TASKS (not `point`) and its answer; None if the picture gives no occasion."""
    if task == "location":
        return _ask_location(picture, rng, focus)
    if task == "relation":
        return _ask_relation(picture, rng, focus)
    ways = {"colour": _names_without_colour, "shape": _names_without_shape, "word": _names_without_word}
    options = [
        (i, names) for i in (nameable(picture) if focus is None else [focus]) if (names := ways[task](picture, i))
    ]
    if not options:
        return None
    index, names = options[rng.integers(len(options))]
    thing = picture.things[index]
    text = _one_of({"colour": _COLOUR, "shape": _SHAPE, "word": _WORD}[task], rng)
    answer = {"colour": thing.colour, "shape": thing.shape, "word": thing.word}[task]
    phrase = f"the {_one_of(names, rng)}"
    return Sample(text.format(phrase), (index,), (phrase,), task, answer, thing.place)


def _names_without_colour(picture: Picture, index: int) -> list[str]:
    thing = picture.things[index]
    names = [f"{thing.shape} {thing.word}"] if written(picture, index) else []
    if sum(other.shape == thing.shape for other in picture.things) == 1:
        names += shape_words(thing.shape)
    return names


def _names_without_shape(picture: Picture, index: int) -> list[str]:
    thing = picture.things[index]
    if sum(other.colour == thing.colour for other in picture.things) > 1:
        return []
    return [f"{colour} {generic}" for colour in colour_words(thing.colour) for generic in ("thing", "object", "one")]


def _names_without_word(picture: Picture, index: int) -> list[str]:
    return names_of(picture, index) if picture.things[index].word else []


def _ask_location(picture: Picture, rng: np.random.Generator, focus: int | None) -> Sample | None:
    if focus is None and picture.self_place is not None and rng.random() < 0.15:
        phrase = _one_of(GRIPPER_WORDS if picture.kind == "table" else CURSOR_WORDS, rng)
        place = picture.self_place
        mentions: tuple[int, ...] = ()
    else:
        choices = nameable(picture) if focus is None else [focus]
        if not choices:
            return None
        index = choices[rng.integers(len(choices))]
        phrase, place, mentions = name(picture, index, rng), picture.things[index].place, (index,)
    x, y = (int(np.clip((at + 1) / 2 * LOCATIONS, 0, LOCATIONS - 1)) for at in place)
    text = _one_of(_WHERE, rng).format(phrase)
    return Sample(text, mentions, (phrase,) if mentions else (), "location", f"<loc_{x}><loc_{y}>", place)


def _ask_relation(picture: Picture, rng: np.random.Generator, focus: int | None) -> Sample | None:
    choices = nameable(picture)
    shown = [i for i, thing in enumerate(picture.things) if thing.pixels >= LEAST_PIXELS]
    for index in rng.permutation(choices) if choices else ():
        side = _one_of(tuple(_SIDES), rng)
        found = _beside(picture, int(index), _SIDES[side], shown)
        if found is None or (focus is not None and focus != found):
            continue
        thing = picture.things[found]
        if not thing.colour:
            continue
        phrase = name(picture, int(index), rng)
        text = _one_of(_RELATION, rng).format(phrase, side=side)
        return Sample(text, (int(index),), (phrase,), "relation", f"{thing.colour} {thing.shape}", thing.place)
    return None


def _beside(picture: Picture, index: int, way: tuple[int, int], shown: list[int]) -> int | None:
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


def _one_of(options: tuple[str, ...] | list[str], rng: np.random.Generator) -> str:
    return options[rng.integers(len(options))]
