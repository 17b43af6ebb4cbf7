"""Pictures of pages in a real browser: what is said to be there is what the pixels show."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest

from sims.grounding import samples
from sims.grounding.picture import BARE, Picture, Split
from sims.vocabulary import COLOURS, HELD_OUT_COMBINATIONS
from tests.sims.web.browsers import needs_browser

pytestmark = needs_browser


@pytest.fixture(scope="module")
def pages() -> list[Picture]:
    return samples.draw("page", Split(sides=(96,)), seed=3, count=40)


def test_coloured_shapes_have_their_colour_where_they_are_said_to_be(pages: list[Picture]) -> None:
    checked = 0
    for page in pages:
        for index, thing in enumerate(page.things):
            x, y = (int((at + 1) / 2 * 96) for at in thing.place)
            shown = min(x, y) >= 0 and max(x, y) < 96 and page.cells[y // 8 * 12 + x // 8] == index
            if not shown or thing.shape not in ("square", "circle", "diamond") or thing.pixels < 60:
                continue
            hues, saturations, values = COLOURS[thing.colour]
            hue, saturation, value = colorsys.rgb_to_hsv(*(page.image[y, x] / 255))
            assert any(hues[0] - 0.03 <= turn <= hues[1] + 0.03 for turn in (hue - 1, hue, hue + 1)) or hues == (
                0.0,
                1.0,
            )
            assert saturations[0] - 0.1 <= saturation <= saturations[1] + 0.1
            assert values[0] - 0.1 <= value <= values[1] + 0.1
            checked += 1
    assert checked > 10


def test_pages_show_many_kinds_of_things_and_nothing_held_out(pages: list[Picture]) -> None:
    things = [thing for page in pages for thing in page.things]
    assert {"button", "field", "checkbox", "radio", "link", "label", "row", "window", "slider"} <= {
        t.shape for t in things
    }
    assert not {(thing.colour, thing.shape) for thing in things} & HELD_OUT_COMBINATIONS
    assert all(page.image.shape == (96, 96, 3) and page.image.std() > 0 for page in pages)


def test_what_a_dialog_covers_is_not_shown(pages: list[Picture]) -> None:
    dialogs = [page for page in pages if any(thing.shape == "window" for thing in page.things)]
    assert dialogs
    for page in dialogs:
        bar = next(i for i, thing in enumerate(page.things) if thing.shape == "window")
        x, y = (int((at + 1) / 2 * 96) for at in page.things[bar].place)
        below = page.cells.reshape(12, 12)[min(11, y // 8 + 1), min(11, x // 8)]
        assert below in (BARE, len(page.things)) or below >= bar, "the dialog's own things, or its ground"


def test_a_page_can_be_drawn_again(pages: list[Picture]) -> None:
    again = samples.draw("page", Split(sides=(96,)), seed=3, count=2)
    for first, second in zip(pages, again, strict=False):
        assert np.array_equal(first.image, second.image)
        assert first.things == second.things
