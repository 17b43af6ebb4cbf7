"""What texts say of a thing by another one beside it: held against a search of all things."""

from __future__ import annotations

import numpy as np
import pytest

from sims.grounding import samples
from sims.grounding.phrases import NOTHING, SIDES, neighbour
from sims.grounding.picture import BARE, Picture, Split, Thing
from sims.grounding.texts import ABSENT, Sample, instruct
from sims.gui.words import TRAINED_WORDS


@pytest.fixture(scope="module")
def told() -> list[tuple[Picture, Sample]]:
    """Screens, and instructions that mention things by others wherever they can."""
    rng = np.random.default_rng(0)
    drawn = samples.draw("screen", Split(), seed=5, count=250)
    found = [(picture, instruct(picture, rng, TRAINED_WORDS, relations=1.0)) for picture in drawn]
    return [(picture, text) for picture, text in found if text is not None]


def grid(*rows: str) -> Picture:
    """A picture of square things in rows and columns; a space is none, and a letter its word."""
    things = [
        Thing("", "button", (-0.8 + 0.4 * x, -0.8 + 0.4 * y), (0.15, 0.15), 99, word=letter)
        for y, row in enumerate(rows)
        for x, letter in enumerate(row)
        if letter != " "
    ]
    return Picture(np.zeros((64, 64, 3), np.uint8), tuple(things), np.full(64, BARE, np.int8), "screen")


def beside(picture: Picture, word: str, way: tuple[int, int]) -> str | None:
    """The word of the neighbour on that side of the thing with that word."""
    index = [thing.word for thing in picture.things].index(word)
    found = neighbour(picture, index, way, list(range(len(picture.things))))
    return None if found is None else picture.things[found].word


def test_in_a_grid_the_neighbour_is_the_next_in_the_row_or_column() -> None:
    picture = grid("abc", "def", "ghi")
    assert [beside(picture, "e", SIDES[side]) for side in ("left of", "right of", "above", "below")] == list("dfbh")
    assert beside(picture, "a", SIDES["above"]) is None
    assert beside(grid("a c", " b "), "a", SIDES["right of"]) == "c", "what is in line comes first"


def test_a_phrase_that_names_another_thing_means_its_neighbour(told: list[tuple[Picture, Sample]]) -> None:
    checked = 0
    for picture, text in told:
        for index, phrase in zip(text.mentions, text.phrases, strict=True):
            side = next((side for side in sorted(SIDES, key=len, reverse=True) if f" {side} " in phrase.text), None)
            if index == ABSENT or phrase.anchor == NOTHING or side is None:
                continue
            offset = np.array(picture.things[index].place) - np.array(picture.things[phrase.anchor].place)
            assert offset @ SIDES[side] > 0, phrase
            assert phrase.side == side
            checked += 1
    assert checked > 100


def test_screens_of_grids_have_buttons_that_others_name() -> None:
    rng = np.random.default_rng(0)
    drawn = samples.draw("screen", Split(grids=1.0), seed=5, count=60)
    texts = [text for each in drawn if (text := samples.sample(each, rng, relations=1.0)) and text.task == "point"]
    assert np.mean([any(phrase.anchor != NOTHING for phrase in text.phrases) for text in texts]) > 0.6
    others = [thing.shape for picture in drawn for thing in picture.things if thing.shape != "button"]
    assert others.count("window") > 0.7 * len(others)


def test_the_first_look_is_for_the_thing_by_which_the_other_is_named(told: list[tuple[Picture, Sample]]) -> None:
    rows = [row for row in told if any(phrase.anchor != NOTHING for phrase in row[1].phrases)][:40]
    batch = samples.collate([row for row in rows if len(row[0].image) == len(rows[0][0].image)])
    kept = [row for row in rows if len(row[0].image) == len(rows[0][0].image)]
    for i, (picture, text) in enumerate(kept):
        for slot, (index, phrase) in enumerate(zip(text.mentions, text.phrases, strict=True)):
            if index == ABSENT:
                continue
            first = index if phrase.anchor == NOTHING else phrase.anchor
            np.testing.assert_allclose(batch["anchors"][i, slot], picture.things[first].place, rtol=1e-6)
            np.testing.assert_allclose(batch["places"][i, slot], picture.things[index].place, rtol=1e-6)
    assert (batch["anchors"] != batch["places"]).any()
