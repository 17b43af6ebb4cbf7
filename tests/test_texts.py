"""Texts of whatever script come through everything that takes them, as they are; what cannot be kept is named."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sims  # noqa: F401  (registers the environments)
from sims.gui.tasks.click_label import ClickLabel
from tests import fakes
from tests.strangers.test_datasets import SHAPE, episode
from vla_rl.data import demos, lerobot
from vla_rl.data.record import demonstrate
from vla_rl.models.backbone import Backbone
from vla_rl.replay.instructions import Instructions
from vla_rl.specs import MOST_LETTERS, TASK

TEXTS = ("pose la tasse à café", "把杯子放到桌子上", "ضع الكوب", "чашку на стол", "a \N{HOT BEVERAGE}, please")
HALF = "half a \ud83d"


class Told(fakes.Line):
    """The line, whose instruction is the class's `words`."""

    words = ""

    def _observe(self) -> dict[str, Any]:
        return super()._observe() | {TASK: self.words}


@dataclass(frozen=True)
class Foreign(ClickLabel):
    """Clicks a label, asked for in other words."""

    def begin(self, screen: Any, rng: np.random.Generator) -> Any:
        return replace(super().begin(screen, rng), instruction=TEXTS[0])


@pytest.mark.parametrize("words", [*TEXTS, unicodedata.normalize("NFD", TEXTS[0])])
def test_demonstrations_keep_a_text(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Told, "words", words)
    folder = demos.save(demonstrate(Told(), 1), tmp_path / "demos")
    assert set(demos.load(folder).episodes[0].tasks) == {unicodedata.normalize("NFC", words)}


ANY = st.text(st.characters(exclude_categories=("Cs",)), max_size=40) | st.sampled_from(
    [
        "",
        "a\0b",
        "\u202ereversed\u202c",
        "👩🏽‍🚀🏳️‍🌈",
        "ض" * 300,
        "x" * MOST_LETTERS,
        "\ufeff\u2028\x85\x1b[31m",
        " \t\n ",
    ]
)


@given(ANY)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_text_comes_back_from_demonstrations_datasets_and_replay(
    tmp_path_factory: pytest.TempPathFactory, words: str
) -> None:
    folder, kept = tmp_path_factory.mktemp("text"), unicodedata.normalize("NFC", words)
    own = replace(episode(2), tasks=(words,) * 3)
    demos.save(demos.Demonstrations((own,), SHAPE, {"env": "x"}), folder / "own")
    assert demos.load(folder / "own").episodes[0].tasks == (kept,) * 3
    lerobot.write_demonstrations([own], folder / "dataset")
    assert lerobot.load(folder / "dataset").episodes[0].tasks == (kept,) * 3
    held = Instructions()
    ids = held.take([words, words])
    assert Instructions.restored(json.loads(json.dumps(held.state()))).texts(ids) == [words] * 2


def test_half_a_character_is_named_when_an_episode_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Told, "words", HALF)
    with pytest.raises(ValueError, match="task: character 7 is half of a surrogate pair"):
        demonstrate(Told(), 1)


@pytest.mark.parametrize("words", TEXTS)
def test_the_backbone_reads_every_letter(words: str, random_backbone: Path) -> None:
    backbone = Backbone.load(random_backbone)
    ids = backbone._tokenised(words, views=1).ids
    assert backbone.tokenizer.decode(ids).strip() == words.lower()


def test_the_backbone_names_half_a_character(random_backbone: Path) -> None:
    with pytest.raises(ValueError, match="instruction: character 7 is half of a surrogate pair"):
        Backbone.load(random_backbone).prompt([HALF])


def test_a_screen_may_ask_in_any_script() -> None:
    env = gymnasium.make("vla_rl/Gui-v0", task=Foreign(), sensors=["instruction"])
    observation, _ = env.reset(seed=0)
    assert observation[TASK] == TEXTS[0]
    assert env.observation_space.contains(observation)
    assert env.observation_space.contains(env.observation_space.sample())
