"""Batches of pictures, texts and labels: what `vla_rl.grounding` trains and scores on. Everything is seeded.

A batch is a dict of numpy arrays and lists (B rows of one kind, S slots: 4 mentions and the robot, N cells, W words
of the longest text):

| key | value |
|---|---|
| images | uint8 [B, side, side, 3] |
| texts, answers, tasks | lists of B str; no answer: "" |
| places | float32 [B, S, 2] in [-1, 1], x right, y down; 0 where not located |
| anchors | float32 [B, S, 2] as `places`, of the thing by which the text names the slot's, mostly that one itself |
| shown | float32 [B, S], 1 where the slot names a thing that the picture shows |
| extents | float32 [B, S, 2] in [0, 1], half the width and height in half images; 0 as above, and of the robot |
| referent | float32 [B, 2], the place that the answer is about; NaN where there is none |
| spoken | dict of int64 [B, S]: what colour, shape, word, letters, side the text says of a thing; 0 none, or UNSPOKEN |
| typed | int64 [B, 2, W]: 1 + the mention that a word to be typed goes into, for its first word and its last; 0 else |
| cells | dict of int64 [B, N]: colour, shape, naming word and its letters of what a cell shows; 0 none, or UNSPOKEN |
| metres | float32 [B, S, 2, 2], how far a step of the place moves over the table at the slot's height; NaN on screens |
| offsets | float32 [B, N, 2], from each cell's centre to that of its thing, in half cells; NaN where bare |
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from string import ascii_lowercase, digits
from typing import Any

import numpy as np

from sims.grounding.pages import Pages
from sims.grounding.phrases import NOTHING, SIDES, WAYS
from sims.grounding.picture import BARE, PATCH, Maker, Picture, Split
from sims.grounding.questions import ask
from sims.grounding.screens import Screens
from sims.grounding.sketches import Sketches
from sims.grounding.tables import Tables
from sims.grounding.texts import ABSENT, Sample, instruct
from sims.gui.words import TRAINED_WORDS, WRITTEN
from sims.vocabulary import COLOURS, CURSOR, GRIPPER, HELD_OUT_COMBINATIONS, SHAPES
from vla_rl.specs import words_of

MENTIONS = 4
SLOTS = MENTIONS + 1
LETTERS = ascii_lowercase + digits
SPELLED = {"first": 0, "second": 1, "third": 2, "last": -1}
"""Which letter of a word a label says: so words are taught by what they are made of, and new ones can be read."""
CELL_LABELS = {"colour": 1 + len(COLOURS), "shape": 1 + len(SHAPES) + 2, "word": 1 + len(WRITTEN)}
CELL_LABELS |= {label: 2 + len(LETTERS) for label in SPELLED}
"""How many values each label of a cell has; 0 is a bare cell, or no word."""
LABELS = {"cells": CELL_LABELS, "spoken": CELL_LABELS | {"side": 2 + len(WAYS)}}
"""The same of cells and of what a text says of a thing; there 0 is no mention, and 1 a thing beside no other."""
UNSPOKEN = -100
MAKERS: dict[str, type[Maker]] = {"table": Tables, "screen": Screens, "sketch": Sketches, "page": Pages}
"""A sketch or a page is a picture of the kind `screen`."""
SHARES = {
    "table": {"point": 0.8, "location": 0.05, "colour": 0.04, "shape": 0.04, "relation": 0.07},
    "screen": {"point": 0.5, "location": 0.1, "colour": 0.06, "shape": 0.08, "word": 0.16, "relation": 0.1},
}
TAUGHT_RELATIONS, TAUGHT_FORMS = 0.5, 0.5
"""How often training mentions a thing of a screen by another one, and sets a slider or fills a form in, where it can.
"""
_CHUNK = 500
_COLOUR_INDEX = {name: i + 1 for i, name in enumerate(COLOURS)}
_SHAPE_INDEX = {name: i + 1 for i, name in enumerate((*SHAPES, GRIPPER, CURSOR))}
_WORD_INDEX = {name: i + 1 for i, name in enumerate(WRITTEN)}

_INDICES = {"colour": _COLOUR_INDEX, "shape": _SHAPE_INDEX, "word": _WORD_INDEX}
_SHORT = 1 + len(LETTERS)
"""The label of a letter that a word is too short for."""


def draw(kind: str, split: Split, seed: int, count: int, processes: int = 1) -> list[Picture]:
    """`count` pictures; the same for the same kind, split and seed, whatever the number of processes.

    Raises:
        ValueError: an unknown kind.
    """
    if kind not in MAKERS:
        raise ValueError(f"kind must be one of {', '.join(MAKERS)}; got {kind!r}")
    jobs = [(kind, split, seed, start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
    if processes <= 1 or len(jobs) == 1:
        return [picture for job in jobs for picture in _chunk(job)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return [picture for chunk in pool.map(_chunk, jobs, chunksize=1) for picture in chunk]


def _chunk(job: tuple[str, Split, int, int, int]) -> list[Picture]:
    kind, split, seed, start, end = job
    maker = MAKERS[kind](split)
    pictures = [maker.draw(np.random.default_rng([seed, i])) for i in range(start, end)]
    maker.close()
    return pictures


def sample(picture: Picture, rng: np.random.Generator, relations: float = TAUGHT_RELATIONS) -> Sample | None:
    """An instruction or a question on a picture, drawn with the kind's SHARES, as training sees it. relations: how
    often a thing of a screen is mentioned by another one, where it can be."""
    shares = SHARES[picture.kind]
    task = str(rng.choice(list(shares), p=list(shares.values())))
    asked = ask(picture, task, rng) if task != "point" else None
    return asked or instruct(picture, rng, TRAINED_WORDS, relations=relations, forms=TAUGHT_FORMS)


def batches(
    pictures: Sequence[Picture], size: int, steps: int, seed: int, relations: float = TAUGHT_RELATIONS
) -> Iterator[dict[str, Any]]:
    """`steps` batches of fresh texts (see `sample`) on pictures in random order, each of one kind, size and length of
    text."""
    rng = np.random.default_rng([seed, 1])
    kinds = sorted({(p.kind, len(p.image)) for p in pictures})
    decks = [_Deck([p for p in pictures if (p.kind, len(p.image)) == kind], rng, relations) for kind in kinds]
    shares = np.array([len(deck.pictures) for deck in decks]) / len(pictures)
    together = 16
    for start in range(0, steps, together):
        drawn = rng.multinomial(min(together, steps - start), shares)
        found = []
        for deck, count in zip(decks, drawn, strict=True):
            rows = sorted((deck.row() for _ in range(count * size)), key=lambda row: len(row[1].text + row[1].answer))
            found += [rows[i * size : (i + 1) * size] for i in range(count)]
        for i in rng.permutation(len(found)):
            yield collate(found[i])


class _Deck:
    """Pictures of one kind and size in random order, again and again."""

    def __init__(self, pictures: Sequence[Picture], rng: np.random.Generator, relations: float) -> None:
        self.pictures, self._rng, self._relations = pictures, rng, relations
        self._order: list[int] = []

    def row(self) -> tuple[Picture, Sample]:
        """The next picture of which something can be said, and a text on it."""
        while True:
            if not self._order:
                self._order = self._rng.permutation(len(self.pictures)).tolist()
            picture = self.pictures[self._order.pop()]
            found = sample(picture, self._rng, self._relations)
            if found is not None:
                return picture, found


def phrasebook(pictures: Sequence[Picture], seed: int, most: int = 10_000) -> list[str]:
    """Texts and answers such as `batches` gives, for a tokenizer to learn its words from."""
    rng = np.random.default_rng([seed, 3])
    few = [pictures[i] for i in rng.permutation(len(pictures))[:most]]
    found = [text for picture in few if (text := sample(picture, rng)) is not None]
    return [part for text in found for part in (text.text, text.answer)]


def questions(
    pictures: Sequence[Picture], task: str, seed: int, held_out: bool = False
) -> list[tuple[Picture, Sample]]:
    """At most one text of a task for each picture; with `held_out`, on a pair of colour and shape never trained."""
    rng = np.random.default_rng([seed, 2])
    rows = []
    for picture in pictures:
        focus = None
        if held_out:
            pairs = [i for i, t in enumerate(picture.things) if (t.colour, t.shape) in HELD_OUT_COMBINATIONS]
            if not pairs:
                continue
            focus = pairs[0]
        found = instruct(picture, rng, TRAINED_WORDS, focus) if task == "point" else ask(picture, task, rng, focus)
        if found is not None:
            rows.append((picture, found))
    return rows


def collate(rows: Sequence[tuple[Picture, Sample]]) -> dict[str, Any]:
    """Rows -> a batch (see the module's text)."""
    B = len(rows)
    places, shown = np.zeros((B, SLOTS, 2), np.float32), np.zeros((B, SLOTS), np.float32)
    extents, anchors = np.zeros((B, SLOTS, 2), np.float32), np.zeros((B, SLOTS, 2), np.float32)
    referent = np.full((B, 2), np.nan, np.float32)
    metres = np.full((B, SLOTS, 2, 2), np.nan, np.float32)
    for i, (picture, text) in enumerate(rows):
        for slot, index in enumerate(text.mentions):
            if index != ABSENT:
                thing = picture.things[index]
                places[i, slot], extents[i, slot], shown[i, slot] = thing.place, thing.extent, 1
                anchor = text.phrases[slot].anchor
                anchors[i, slot] = thing.place if anchor == NOTHING else picture.things[anchor].place
        if picture.self_place is not None:
            places[i, MENTIONS], shown[i, MENTIONS] = picture.self_place, 1
            anchors[i, MENTIONS] = picture.self_place
        if text.referent is not None:
            referent[i] = text.referent
        if picture.view is not None:
            heights = [picture.things[m].height if m != ABSENT else 0.0 for m in text.mentions]
            heights += [0.0] * (MENTIONS - len(heights)) + [picture.self_height]
            metres[i] = picture.view.metres(places[i], np.array(heights))
    said = {label: np.zeros((B, SLOTS), np.int64) for label in LABELS["spoken"]}
    for i, (_, text) in enumerate(rows):
        for slot, phrase in enumerate(text.phrases):
            for label, known in _INDICES.items():
                said[label][i, slot] = known.get(getattr(phrase, label), UNSPOKEN)
            for label, at in SPELLED.items():
                said[label][i, slot] = _letter(phrase.word, at) if phrase.word else UNSPOKEN
            said["side"][i, slot] = 2 + WAYS.index(SIDES[phrase.side]) if phrase.side else 1
    for values in said.values():
        values[:, MENTIONS] = UNSPOKEN
    labels = [cell_labels(picture) for picture, _ in rows]
    return {
        "images": np.stack([picture.image for picture, _ in rows]),
        "texts": [text.text for _, text in rows],
        "answers": [text.answer for _, text in rows],
        "tasks": [text.task for _, text in rows],
        "places": places,
        "anchors": anchors,
        "extents": extents,
        "shown": shown,
        "referent": referent,
        "metres": metres,
        "spoken": said,
        "typed": _typed([text for _, text in rows]),
        "cells": {key: np.stack([label[key] for label, _ in labels]) for key in CELL_LABELS},
        "offsets": np.stack([offset for _, offset in labels]),
    }


def _typed(texts: Sequence[Sample]) -> np.ndarray:
    """Which words are to be typed, and into what: int64 [B, 2, W] (see the module's text)."""
    typed = np.zeros((len(texts), 2, max(len(words_of(text.text)) for text in texts)), np.int64)
    for i, text in enumerate(texts):
        for each in text.typed:
            typed[i, 0, each.first] = typed[i, 1, each.last] = 1 + each.mention
    return typed


def _letter(word: str, at: int) -> int:
    """The label of a word's letter number `at`: UNSPOKEN for what is none of LETTERS."""
    if at >= len(word):
        return _SHORT
    return 1 + LETTERS.index(word[at]) if word[at] in LETTERS else UNSPOKEN


def cell_labels(picture: Picture) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What each cell shows: int64 [N] a label, and offsets float32 [N, 2] (see the module's text)."""
    things = picture.things
    robot = _SHAPE_INDEX[GRIPPER if picture.kind == "table" else CURSOR]
    nowhere = (np.nan, np.nan)
    colour = np.array([_COLOUR_INDEX.get(t.colour, 0) for t in things] + [0, 0])
    shape = np.array([_SHAPE_INDEX[t.shape] for t in things] + [robot, 0])
    # By which words mention it: those beside a field, not those in it.
    named = [t.name or t.word for t in things]
    word = np.array([_WORD_INDEX.get(each, UNSPOKEN if each else 0) for each in named] + [0, 0])
    centres = np.array([t.place for t in things] + [picture.self_place or nowhere, nowhere], np.float32)
    owner = picture.cells.astype(int)  # BARE, which is -1, takes the last row
    assert BARE == -1
    grid = len(picture.image) // PATCH
    along = (np.arange(grid, dtype=np.float32) + 0.5) / grid * 2 - 1
    cells = np.stack(np.meshgrid(along, along), -1).reshape(-1, 2)
    labels = {"colour": colour[owner], "shape": shape[owner], "word": word[owner]}
    for label, at in SPELLED.items():
        labels[label] = np.array([_letter(each, at) if each else 0 for each in named] + [0, 0])[owner]
    return labels, (centres[owner] - cells) * grid
