"""What generated pictures and texts promise: nothing held out is shown, labels are where the pixels are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from sims.grounding import samples
from sims.grounding.bodies import FALLEN, KITS
from sims.grounding.exams import EXAMS, exam
from sims.grounding.phrases import NOTHING, absent
from sims.grounding.picture import BARE, PATCH, Picture, Split, View
from sims.grounding.questions import TASKS, ask
from sims.grounding.rehearsal import Drawn
from sims.grounding.screens import KINDS as WIDGETS
from sims.grounding.tables import Tables
from sims.grounding.texts import ABSENT, instruct
from sims.gui.words import HELD_OUT_WORDS, TRAINED_ENTRIES, TRAINED_WORDS
from sims.vocabulary import (
    HELD_OUT_AZIMUTHS,
    HELD_OUT_COMBINATIONS,
    SCREEN_SHAPES,
    TABLE_SHAPES,
    colour_words,
    shape_words,
)
from vla_rl.specs import words_of

KINDS = ("table", "screen", "sketch")
SIZE = 64
GRID = SIZE // PATCH
SIDE = {"table": 64, "screen": 96, "sketch": 64}


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[Picture]]:
    return {kind: samples.draw(kind, Split(), seed=5, count=250) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_training_never_shows_nor_names_a_held_out_combination(kind: str, drawn: dict[str, list[Picture]]) -> None:
    assert not {(t.colour, t.shape) for p in drawn[kind] for t in p.things} & HELD_OUT_COMBINATIONS
    shapes = TABLE_SHAPES if kind == "table" else SCREEN_SHAPES  # a "box" of a screen is a field, and no cube
    held = [f"{c} {s}" for colour, shape in HELD_OUT_COMBINATIONS if shape in shapes for c in colour_words(colour)
            for s in shape_words(shape) if s not in ("block", "target", "patch")]  # fmt: skip
    assert held
    texts = " ; ".join(text for batch in samples.batches(drawn[kind], 20, 30, seed=1) for text in batch["texts"])
    assert not [phrase for phrase in held if f"{phrase} " in texts.lower()]


@pytest.mark.parametrize("kind", KINDS)
def test_the_exam_of_new_combinations_asks_for_one_of_them_each_time(kind: str) -> None:
    pictures = samples.draw(kind, Split(combinations=True), seed=9, count=60)
    rows = samples.questions(pictures, "point", seed=0, held_out=True)
    assert len(rows) > 30
    for picture, text in rows:
        mentioned = {(picture.things[i].colour, picture.things[i].shape) for i in text.mentions if i != ABSENT}
        assert mentioned & HELD_OUT_COMBINATIONS


def test_training_cameras_and_backgrounds_keep_out_of_the_held_out_ranges(drawn: dict[str, list[Picture]]) -> None:
    for picture in drawn["table"]:
        assert picture.view is not None
        x, y = picture.view.position[:2]
        azimuth = np.degrees(np.arctan2(x, -y)) % 360
        assert np.hypot(x, y) < 0.15 or not HELD_OUT_AZIMUTHS[0] <= azimuth <= HELD_OUT_AZIMUTHS[1]
    for picture in samples.draw("table", Split(cameras=True), seed=1, count=20):
        assert picture.view is not None
        x, y = picture.view.position[:2]
        assert HELD_OUT_AZIMUTHS[0] <= np.degrees(np.arctan2(x, -y)) % 360 <= HELD_OUT_AZIMUTHS[1]


def test_a_table_things_pixels_lie_around_its_place(drawn: dict[str, list[Picture]]) -> None:
    """The cells that show a thing, and the place that words point to, agree."""
    off = []
    for picture in drawn["table"]:
        for i, thing in enumerate(picture.things):
            cells = np.flatnonzero(picture.cells == i)
            if len(cells):
                centre = np.stack([cells % GRID, cells // GRID]).mean(1) + 0.5
                off.append(np.abs(centre - (np.array(thing.place) + 1) / 2 * GRID).max())
    assert np.median(off) < 0.6
    assert np.quantile(off, 0.95) < 1.3


@pytest.mark.parametrize(
    ("side", "shape", "kits", "most"), [(64, "ball", 0.0, 0.5), (96, "ball", 0.0, 0.5), (96, "peg", 1.0, 0.7)]
)
def test_the_render_agrees_with_the_projection(side: int, shape: str, kits: float, most: float) -> None:
    """The centroid of the pixels that segmentation gives to a ball, or to a peg, also one that lies, is where its
    centre projects."""
    maker, off = Tables(Split(table_sides=(side,), kits=kits)), []
    for seed in range(120):
        owner: list = []
        render = Tables._render

        def keep(self: Tables, at: int, store: list = owner, render=render) -> tuple:
            store.append(render(self, at))
            return store[-1]

        maker._render = keep.__get__(maker)  # type: ignore[method-assign]
        picture = maker.draw(np.random.default_rng(seed))
        for i, thing in enumerate(picture.things):
            pixels = np.argwhere(owner[0][1] == i)
            if thing.shape == shape and len(pixels) > 12:
                off.append(np.abs(pixels.mean(0)[::-1] + 0.5 - (np.array(thing.place) + 1) * side / 2).max())
    maker.close()
    assert len(off) > 20
    assert np.median(off) < most


def test_tables_of_several_sizes_show_the_same_things_at_the_same_places() -> None:
    small, large = (samples.draw("table", Split(table_sides=(side,)), seed=3, count=5) for side in (64, 96))
    for a, b in zip(small, large, strict=True):
        assert (len(a.image), len(b.image), len(b.cells)) == (64, 96, (96 // PATCH) ** 2)
        assert [(t.colour, t.shape, t.place, t.extent) for t in a.things] == [
            (t.colour, t.shape, t.place, t.extent) for t in b.things
        ]
    both = samples.draw("table", Split(table_sides=(64, 96)), seed=3, count=20)
    assert {len(picture.image) for picture in both} == {64, 96}


def test_twins_are_as_frequent_as_they_are_asked_for() -> None:
    def twins(share: float) -> float:
        shown = [[t.colour for t in p.things if t.colour] for p in samples.draw("table", Split(twins=share), 3, 60)]
        return float(np.mean([len(set(colours)) < len(colours) for colours in shown]))

    assert twins(0.9) > twins(0.3) > twins(0.0)


def test_things_that_are_used_together_are_drawn_where_they_are_asked_for() -> None:
    def kits(share: float) -> float:
        drawn = samples.draw("table", Split(kits=share), 3, 60)
        shown = [{(thing.shape, thing.colour) for thing in picture.things} for picture in drawn]
        return float(np.mean([any(_has(kit, things) for kit in KITS) for things in shown]))

    assert kits(1.0) > 0.8  # a thing for which there is no room is left out
    assert kits(0.0) < 0.2


def test_pegs_stand_unless_kits_are_asked_for() -> None:
    def pegs(kits: float) -> list[tuple[Picture, int]]:
        drawn = samples.draw("table", Split(kits=kits, familiar=1.0, view="front"), 3, 150)
        return [(p, i) for p in drawn for i, thing in enumerate(p.things) if thing.shape == "peg"]

    standing, any_way = pegs(0.0), pegs(1.0)
    wide = [t.extent[0] > t.extent[1] for picture, i in any_way for t in [picture.things[i]]]
    assert not any(picture.things[i].extent[0] > picture.things[i].extent[1] for picture, i in standing)
    assert 0.05 < np.mean(wide) < FALLEN


def test_forms_and_sliders_are_drawn_and_set_where_they_are_asked_for() -> None:
    def share(kits: float, shape: str, least: int = 2) -> float:
        drawn = samples.draw("screen", Split(kits=kits), 3, 120)
        return np.mean([[thing.shape for thing in picture.things].count(shape) >= least for picture in drawn])

    assert share(1.0, "field") > 0.3 > 0.15 > share(0.0, "field")
    assert share(1.0, "slider") > 0.08 > 0.05 > share(0.0, "slider")
    rng, filled, levels = np.random.default_rng(0), 0, 0
    for picture in samples.draw("screen", Split(kits=1.0), 3, 90):
        text = instruct(picture, rng, TRAINED_WORDS, forms=1.0)
        assert text is not None
        named = [picture.things[i].shape if i != ABSENT else "" for i in text.mentions]
        if named == ["slider"]:
            levels += any(word.isdigit() for word in text.text.strip(".").split())
        if named.count("field") < 2 or named[-1] == "field":  # no form, or one with a dialog on top
            continue
        filled += 1
        count = named.count("field")
        assert named[:count] == ["field"] * count
        assert [each.mention for each in text.typed] == list(range(count))
        assert not {"label", "window"} & set(named)
    assert filled > 10
    assert levels > 5


def _has(kit: Sequence[tuple[str, str]], things: set[tuple[str, str]]) -> bool:
    """Whether things of all shapes of a kit are there, in the same colour where the kit has the same."""
    shapes = [shape for shape, _ in kit]
    of_shape = {shape: {colour for each, colour in things if each == shape} for shape in shapes}
    alike = {a for a, letter in kit for b, other in kit if a != b and letter == other}
    same = set.intersection(*(of_shape[shape] for shape in alike)) if alike else {""}
    return bool(same) and all(len(of_shape[shape]) >= shapes.count(shape) for shape in shapes)


@pytest.mark.parametrize("kind", KINDS)
def test_drawing_is_reproducible_one_by_one(kind: str) -> None:
    first, again = (samples.draw(kind, Split(), seed=3, count=n) for n in (3, 5))
    for a, b in zip(first, again, strict=False):
        np.testing.assert_array_equal(a.image, b.image)
        assert a.things == b.things
    other = samples.draw(kind, Split(), seed=4, count=1)[0]
    assert not np.array_equal(first[0].image, other.image)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_mention_things_in_order_and_say_only_what_holds(kind: str, drawn: dict[str, list[Picture]]) -> None:
    rng = np.random.default_rng(0)
    for picture in drawn[kind]:
        text = instruct(picture, rng, TRAINED_WORDS)
        if text is None:
            continue
        starts = [re.search(rf"{re.escape(phrase.text)}(?!\w)", text.text, re.I).start() for phrase in text.phrases]
        assert all(a < b for a, b in pairwise(starts)) or len(set(text.phrases)) < len(starts) or kind != "table"
        for index, phrase in zip(text.mentions, text.phrases, strict=True):
            if index != ABSENT:
                thing = picture.things[index if phrase.anchor == NOTHING else phrase.anchor]
                assert phrase.colour in ("", thing.colour)
                assert phrase.shape in ("", thing.shape)
                assert phrase.word in ("", thing.word, thing.name)


@pytest.mark.parametrize("task", TASKS[1:])
def test_questions_have_the_answer_that_the_picture_gives(task: str, drawn: dict[str, list[Picture]]) -> None:
    rng = np.random.default_rng(0)
    asked = [(p, text) for p in drawn["screen"] if (text := ask(p, task, rng)) is not None]
    assert len(asked) > 40
    for picture, text in asked:
        if text.referent is None or text.referent == picture.self_place:
            continue
        thing = {thing.place: thing for thing in picture.things}[text.referent]
        if task in ("colour", "shape", "word"):
            assert text.answer == getattr(thing, task)
        elif task == "relation":
            assert text.answer in (f"{thing.colour} {thing.shape}", f"{thing.shape} {thing.word}")


@pytest.mark.parametrize("kind", KINDS)
def test_batches_have_the_documented_shapes(kind: str, drawn: dict[str, list[Picture]]) -> None:
    (batch,) = samples.batches(drawn[kind], 8, 1, seed=0)
    assert batch["images"].shape == (8, SIDE[kind], SIDE[kind], 3)
    assert batch["images"].dtype == np.uint8
    assert batch["places"].shape == (8, samples.SLOTS, 2)
    assert np.abs(batch["places"]).max() <= 1
    assert np.isnan(batch["metres"]).all() == (kind != "table")
    for name, count in samples.CELL_LABELS.items():
        cells, said = batch["cells"][name], batch["spoken"][name]
        assert cells.shape == (8, (SIDE[kind] // PATCH) ** 2)
        assert cells.min() >= (0 if name in ("colour", "shape") else samples.UNSPOKEN)
        assert max(cells.max(), said.max()) < count
        assert said.shape == (8, samples.SLOTS)
    assert batch["spoken"].keys() == samples.LABELS["spoken"].keys()
    assert np.isnan(batch["offsets"]).any()
    assert batch["typed"].shape == (8, 2, max(len(words_of(text)) for text in batch["texts"]))
    assert 0 <= batch["typed"].min() <= batch["typed"].max() <= samples.MENTIONS + 1


def test_words_are_spelled_in_the_labels_of_cells_and_of_mentions(drawn: dict[str, list[Picture]]) -> None:
    spell = {label: [] for label in samples.SPELLED}
    for picture in drawn["screen"]:
        labels, _ = samples.cell_labels(picture)
        for thing in np.unique(picture.cells[(picture.cells >= 0) & (picture.cells < len(picture.things))]):
            word = picture.things[thing].name or picture.things[thing].word
            cell = int(np.flatnonzero(picture.cells == thing)[0])
            for label, at in samples.SPELLED.items():
                letter = word[at] if word and at < len(word) else ""
                value = labels[label][cell]
                spell[label].append(value)
                assert value == samples.UNSPOKEN or (value == 0) == (not word)
                assert not letter.isalpha() or samples.LETTERS[value - 1] == letter
                assert letter or not word or value == len(samples.LETTERS) + 1
    assert all(len(set(values)) > 15 for values in spell.values())


def test_cells_hold_what_most_of_their_pixels_show() -> None:
    from sims.grounding.picture import cells_of

    owner = np.full((SIZE, SIZE), BARE)
    owner[:PATCH, :PATCH] = 1
    owner[:PATCH, PATCH : PATCH + 2] = 0
    cells = cells_of(owner, 2)
    assert cells[0] == 1
    assert cells[1] == 0
    assert (cells[2:] == BARE).all()


def test_a_view_projects_to_where_its_rays_come_from() -> None:
    view = View(np.array([0.0, -0.8, 0.7]), np.array([[1, 0, 0], [0, 0.66, -0.75], [0, 0.75, 0.66]]), 2.6)
    points = np.array([[0.1, 0.05, 0.03], [-0.2, 0.1, 0.03]])
    places = view.project(points)
    np.testing.assert_allclose(view.on_plane(places, np.array([0.03, 0.03])), points, atol=0.01)
    jacobian = view.metres(places, np.array([0.03, 0.03]))
    height, step = np.array([0.03, 0.03]), np.array([0.01, 0.0])
    moved = view.on_plane(places + step, height) - view.on_plane(places, height)
    np.testing.assert_allclose(jacobian[:, :, 0] * 0.01, moved[:, :2], rtol=0.05, atol=1e-5)


def test_an_exam_is_named_and_an_unknown_kind_is_refused() -> None:
    assert len(EXAMS) == 16
    papers = exam("screen", count=12)
    assert set(papers) == set(samples.SHARES["screen"])
    with pytest.raises(ValueError, match="kind must be one of table, screen, sketch, page"):
        samples.draw("sofa", Split(), 0, 1)


def test_an_extent_is_half_of_what_the_thing_covers():
    tables = Tables(Split(view="top"))
    agree = []
    for seed in range(12):
        picture = tables.draw(np.random.default_rng(seed))
        _, owner = tables._render(SIZE)
        for index, thing in enumerate(picture.things):
            rows, columns = np.nonzero(owner == index)
            if not len(rows):
                continue
            seen = np.array([np.ptp(columns) + 1, np.ptp(rows) + 1]) / 2
            full = np.array(thing.extent) * SIZE / 2
            assert (seen <= full + 1.5).all(), thing
            agree.append((np.abs(seen - full) <= 1).all())
    tables.close()
    assert np.mean(agree) > 0.7  # the others are partly hidden, or outside


def test_familiar_tables_are_seen_as_policies_see_them():
    seen = {
        share: {picture.camera for picture in samples.draw("table", Split(familiar=share), seed=1, count=30)}
        for share in (0.0, 1.0)
    }
    assert seen[1.0] <= {"front", "front jittered", "side"}
    assert {"top", "orbit"} <= seen[0.0]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_absent_is_not_there_but_something_like_it_often_is(kind: str, drawn: dict[str, list[Picture]]) -> None:
    rng = np.random.default_rng(1)
    alike = []
    for picture in drawn[kind]:
        said = absent(picture, rng, TRAINED_WORDS)
        if said.word:
            assert all(said.word not in (thing.word, thing.name) for thing in picture.things)
            continue
        shown = {(thing.colour, thing.shape) for thing in picture.things}
        assert (said.colour, said.shape) not in shown
        alike.append(any(said.colour == c or said.shape == s for c, s in shown))
    assert np.mean(alike) > 0.5


def test_a_lamp_that_is_out_has_no_colour_and_what_it_may_be_is_absent(drawn: dict[str, list[Picture]]) -> None:
    unlit = [p for p in drawn["table"] if any(not thing.colour for thing in p.things)]
    assert len(unlit) > 10
    rng = np.random.default_rng(2)
    lost = []
    for picture in unlit:
        out = [i for i, thing in enumerate(picture.things) if not thing.colour]
        assert {picture.things[i].shape for i in out} == {"button"}
        for _ in range(5):
            text = instruct(picture, rng, TRAINED_WORDS)
            if text is None:  # there is nothing else
                assert not [thing for thing in picture.things if thing.colour and thing.pixels > 20]
                continue
            assert not {*text.mentions} & {*out}
            lost.append(ABSENT in text.mentions)
            said = absent(picture, rng, TRAINED_WORDS)
            assert said.colour
            alike = [thing for thing in picture.things if thing.colour == said.colour]
            assert not [thing for thing in alike if said.shape in ("", thing.shape)]
        labels, _ = samples.cell_labels(picture)
        shown = np.isin(picture.cells, out)
        assert (labels["colour"][shown] == 0).all()
        assert (labels["shape"][shown] > 0).all()
    assert np.mean(lost) > 0.3


def test_screens_show_every_widget_and_no_held_out_word_unless_asked(drawn: dict[str, list[Picture]]) -> None:
    shapes = {thing.shape for picture in drawn["screen"] for thing in picture.things}
    assert shapes == {*WIDGETS.values(), "tab", "row", "file", "circle", "square", "triangle", "diamond", "bar"}
    words = {thing.word for picture in drawn["screen"] for thing in picture.things}
    assert len(words & {*TRAINED_WORDS}) > 100
    assert not words & HELD_OUT_WORDS
    new = {t.word for picture in samples.draw("screen", Split(words=True), 1, 60) for t in picture.things}
    assert len(new & HELD_OUT_WORDS) > 12
    assert not new & {*TRAINED_WORDS, *TRAINED_ENTRIES}


def test_a_widgets_pixels_lie_around_its_place(drawn: dict[str, list[Picture]]) -> None:
    off = []
    for picture in drawn["screen"]:
        grid = SIDE["screen"] // PATCH
        for i, thing in enumerate(picture.things):
            cells = np.flatnonzero(picture.cells == i)
            if len(cells) and thing.shape != "window":
                centre = np.stack([cells % grid, cells // grid]).mean(1) + 0.5
                half = np.array(thing.extent) * grid / 2
                off.append((np.abs(centre - (np.array(thing.place) + 1) / 2 * grid) / (half + 0.5)).max())
    assert np.quantile(off, 0.9) < 1.0


def test_what_is_to_be_typed_is_marked_word_by_word(drawn: dict[str, list[Picture]]) -> None:
    rng = np.random.default_rng(3)
    texts = [t for p in drawn["screen"] for _ in range(4) if (t := instruct(p, rng, TRAINED_WORDS)) and t.typed]
    assert len(texts) > 150
    into_fields = 0
    for text in texts:
        words = [text.text[a:b] for a, b in words_of(text.text)]
        for typed in text.typed:
            said = " ".join(words[typed.first : typed.last + 1])
            assert said in text.text
            assert typed.last - typed.first < 2
            assert not any(word in said.split() for word in ("type", "into", "field", "and", "press", "the"))
            into_fields += typed.mention < len(text.mentions)
    assert into_fields > 30


def test_pictures_to_rehearse_are_of_one_size_and_the_same_for_a_seed() -> None:
    pictures, texts = Drawn(tables=6, screens=4, side=64).draw(3)
    again, same = Drawn(tables=6, screens=4, side=64).draw(3)
    assert pictures.shape[1:] == (64, 64, 3)
    assert pictures.dtype == np.uint8
    assert 6 < len(pictures) == len(texts) <= 10
    assert all(texts)
    assert texts == same
    assert np.array_equal(pictures, again)
    other, _ = Drawn(tables=6, screens=4, side=64).draw(4)
    assert other.shape != pictures.shape or not np.array_equal(other, pictures)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"tables": 0, "screens": 0}, "one in all; got 0 and 0"), ({"side": 65}, "one of 64, 96, 128; got 65")],
)
def test_pictures_to_rehearse_refuse_what_makes_no_sense(wrong: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Drawn(**wrong)
