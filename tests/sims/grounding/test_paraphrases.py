"""The exams of words that were never taught: fixed, fair, and of the same things."""

import numpy as np
import pytest

from sims.grounding.paraphrases import COLOURS, EXAMS, MADE_UP, SENTENCES, SHAPES, paraphrases
from sims.grounding.texts import _CLICK, _MANY, _ONE
from sims.gui.words import TRAINED_ENTRIES, WRITTEN
from sims.vocabulary import COLOUR_WORDS, MARKS, SHAPE_WORDS, SOLIDS
from sims.vocabulary import COLOURS as TAUGHT


def test_no_new_word_or_sentence_was_taught() -> None:
    assert COLOURS.keys() == TAUGHT.keys()
    assert SHAPES.keys() == {*SOLIDS, *MARKS}
    known = {word for words in (*COLOUR_WORDS.values(), *SHAPE_WORDS.values()) for word in words}
    known |= {*TAUGHT, *SHAPE_WORDS, *SOLIDS, *MARKS, *WRITTEN}
    known |= {word for entry in TRAINED_ENTRIES for word in entry.split()}
    new = [word for words in (*COLOURS.values(), *SHAPES.values(), MADE_UP) for word in words]
    assert not known & set(new)
    assert len(new) == len(set(new)), "no word means two things"
    assert not {*SENTENCES} & {*_ONE, *_CLICK, *_MANY}


def test_all_exams_ask_for_the_same_things_by_other_words() -> None:
    papers = {name: paraphrases(name, count=30)[0] for name in EXAMS}
    plain = papers["known words"]
    texts = {name: paper["texts"] for name, paper in papers.items()}
    for name, paper in papers.items():
        assert np.array_equal(paper["places"], plain["places"])
        assert np.array_equal(paper["images"], plain["images"])
        assert name == "known words" or all(a != b for a, b in zip(texts[name], plain["texts"], strict=True))
    assert (plain["shown"][:, 0] == 1).all()
    assert (plain["shown"][:, 1:4] == 0).all()
    assert paraphrases("new sentences", count=30)[0]["texts"] == texts["new sentences"]
    with pytest.raises(KeyError, match="no exam 'old words'; known: known words"):
        paraphrases("old words")
