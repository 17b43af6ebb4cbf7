"""Questions on a picture, and their answers."""

from __future__ import annotations

import numpy as np

from sims.grounding.phrases import (
    SIDES,
    Phrase,
    beside,
    name,
    nameable,
    names_of,
    one_of,
    plainly,
    visible,
    written,
)
from sims.grounding.picture import Picture
from sims.grounding.texts import Sample
from sims.vocabulary import CURSOR_WORDS, GRIPPER_WORDS, colour_words, shape_words

LOCATIONS = 32
"""Location tokens along an axis of the image."""
TASKS = ("point", "colour", "shape", "word", "relation", "location")

_WHERE = ("where is {0}?", "where do you see {0}?", "locate {0}", "what is the place of {0}?")
_COLOUR = ("what colour is {0}?", "what color is {0}?", "which colour is {0}?", "which color does {0} have?")
_SHAPE = ("what shape is {0}?", "which shape is {0}?", "what is {0}?", "what kind of thing is {0}?")
_WORD = ("what is written on {0}?", "what does {0} say?", "read {0}", "which word is on {0}?")
_RELATION = ("what is {side} {0}?", "which thing is {side} {0}?", "what do you see {side} {0}?")


def ask(picture: Picture, task: str, rng: np.random.Generator, focus: int | None = None) -> Sample | None:
    """A question of one of TASKS (not `point`) and its answer; None if the picture gives no occasion."""
    if task == "location":
        return _ask_location(picture, rng, focus)
    if task == "relation":
        return _ask_relation(picture, rng, focus)
    ways = {"colour": _names_without_colour, "shape": _names_without_shape, "word": _names_without_word}
    options = [
        (i, names)
        for i in (nameable(picture) if focus is None else [focus])
        if getattr(picture.things[i], task) and (names := ways[task](picture, i))
    ]
    if not options:
        return None
    index, names = options[rng.integers(len(options))]
    thing, phrase = picture.things[index], one_of(names, rng)
    text = one_of({"colour": _COLOUR, "shape": _SHAPE, "word": _WORD}[task], rng).format(phrase.text)
    return Sample(text, (index,), (phrase,), task, getattr(thing, task), thing.place)


def _names_without_colour(picture: Picture, index: int) -> list[Phrase]:
    thing = picture.things[index]
    names = written(picture, index)
    if sum(other.shape == thing.shape for other in picture.things) == 1:
        names += [Phrase(f"the {word}", "", thing.shape) for word in shape_words(thing.shape)]
    return names


def _names_without_shape(picture: Picture, index: int) -> list[Phrase]:
    thing = picture.things[index]
    if not thing.colour or sum(other.colour == thing.colour for other in picture.things) > 1:
        return []
    return [
        Phrase(f"the {colour} {generic}", thing.colour)
        for colour in colour_words(thing.colour)
        for generic in ("thing", "object", "one")
    ]


def _names_without_word(picture: Picture, index: int) -> list[Phrase]:
    return [Phrase(f"the {each.text}", each.colour, each.shape) for each in names_of(picture, index)]


def _ask_location(picture: Picture, rng: np.random.Generator, focus: int | None) -> Sample | None:
    mentions: tuple[int, ...] = ()
    phrases: tuple[Phrase, ...] = ()
    if focus is None and picture.self_place is not None and rng.random() < 0.15:
        text, place = one_of(GRIPPER_WORDS if picture.kind == "table" else CURSOR_WORDS, rng), picture.self_place
    else:
        choices = nameable(picture) if focus is None else [focus]
        if not choices:
            return None
        index = choices[rng.integers(len(choices))]
        phrase = name(picture, index, rng)
        text, place, mentions, phrases = phrase.text, picture.things[index].place, (index,), (phrase,)
    x, y = (int(np.clip((at + 1) / 2 * LOCATIONS, 0, LOCATIONS - 1)) for at in place)
    return Sample(one_of(_WHERE, rng).format(text), mentions, phrases, "location", f"<loc_{x}><loc_{y}>", place)


def _ask_relation(picture: Picture, rng: np.random.Generator, focus: int | None) -> Sample | None:
    choices = nameable(picture)
    shown = [i for i, thing in enumerate(picture.things) if visible(thing)]
    for index in rng.permutation(choices) if choices else ():
        side = one_of(tuple(SIDES), rng)
        found = beside(picture, int(index), SIDES[side], shown)
        if found is None or (focus is not None and focus != found):
            continue
        thing = picture.things[found]
        if not (thing.colour or thing.word):
            continue
        phrase = plainly(picture, int(index), rng)
        text = one_of(_RELATION, rng).format(phrase.text, side=side)
        answer = f"{thing.colour} {thing.shape}" if thing.colour else f"{thing.shape} {thing.word}"
        return Sample(text, (int(index),), (phrase,), "relation", answer, thing.place)
    return None
