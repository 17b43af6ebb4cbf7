"""Instructions in words that no training text has, for things that training does show: what a language model knows.

Each exam names one thing of a table, by its colour and shape, in one way that was taught and in others that were not.
Another thing of its shape is always there. "made-up words" replaces the colour by a word without meaning: what is hit
there is what the shape alone, and chance, are worth.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from sims.grounding.exams import FIRST_SEED
from sims.grounding.phrases import Phrase, names_of, one_of, visible
from sims.grounding.picture import Picture, Split
from sims.grounding.samples import collate, draw
from sims.grounding.texts import Sample
from sims.vocabulary import FIXTURES

COLOURS = {
    "red": ("crimson", "scarlet", "ruby"), "orange": ("tangerine", "apricot"), "yellow": ("golden", "canary"),
    "green": ("emerald", "grass-coloured"), "cyan": ("turquoise", "aqua"), "blue": ("navy", "azure", "sapphire"),
    "purple": ("lavender", "lilac"), "pink": ("rose", "salmon"), "brown": ("chocolate", "chestnut"),
    "white": ("snowy", "pearly"), "black": ("ebony", "coal-coloured"), "gray": ("steel", "ash-coloured"),
}  # fmt: skip
"""For each taught colour, words that mean it, more or less, and were not taught."""
SHAPES = {
    "cube": ("dice", "brick"), "ball": ("orb", "globe", "marble"), "cylinder": ("tube", "drum"),
    "bar": ("rod", "beam"), "capsule": ("tablet", "medicine"), "egg": ("oval", "oval thing"),
    "plate": ("dish", "saucer"), "tray": ("basin", "container"), "mark": ("sticker", "stain"),
    "pad": ("mat", "rug"),
}  # fmt: skip
SENTENCES = (
    "head for {0}", "make contact with {0}", "poke {0}", "lay a finger on {0}", "fetch {0} for me",
    "could you go over to {0}?", "I want you to get in touch with {0}", "your goal is {0}", "seek out {0}",
    "the robot should end up at {0}",
)  # fmt: skip
MADE_UP = ("zorp", "blick", "vundish", "teff", "quade")
EXAMS = ("known words", "new colour words", "new shape words", "new sentences", "made-up words")


def paraphrases(name: str, count: int = 500, seed: int = 0, size: int = 100) -> list[dict[str, Any]]:
    """The batches of an exam: one text for each of at most `count` pictures of the front camera, the same pictures and
    things in all exams.

    Raises:
        KeyError: no such exam.
    """
    if name not in EXAMS:
        raise KeyError(f"no exam {name!r}; known: {', '.join(EXAMS)}")
    rows = []
    for i, picture in enumerate(_pictures(count, seed)):
        rng = np.random.default_rng([seed, i])
        there = [j for j in range(len(picture.things)) if _plain(picture, j)]
        if there:
            rows.append((picture, _text(name, picture, one_of(there, rng), rng)))
    return [collate(rows[start : start + size]) for start in range(0, len(rows), size)]


@lru_cache(maxsize=1)
def _pictures(count: int, seed: int) -> list[Picture]:
    """Those of all exams, drawn once."""
    return draw("table", Split(view="front"), FIRST_SEED + seed, count)


def _plain(picture: Picture, index: int) -> bool:
    """Whether a thing is seen, and named by its colour and shape, while its shape alone would not do."""
    thing, others = picture.things[index], [t for i, t in enumerate(picture.things) if i != index]
    named = any(name.colour and name.shape for name in names_of(picture, index))
    return named and visible(thing) and thing.shape not in FIXTURES and any(o.shape == thing.shape for o in others)


def _text(name: str, picture: Picture, index: int, rng: np.random.Generator) -> Sample:
    """The instruction of an exam on one thing."""
    thing = picture.things[index]
    colour, shape, sentence = thing.colour, thing.shape, "reach {0}"
    if name == "new colour words":
        colour = one_of(COLOURS[colour], rng)
    elif name == "new shape words":
        shape = one_of(SHAPES[shape], rng)
    elif name == "new sentences":
        sentence = one_of(SENTENCES, rng)
    elif name == "made-up words":
        colour = one_of(MADE_UP, rng)
    phrase = Phrase(f"the {colour} {shape}", thing.colour, thing.shape)
    return Sample(sentence.format(phrase.text), (index,), (phrase,))
