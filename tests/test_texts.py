"""Texts of whatever script come through everything that takes them, as they are; what cannot be kept is named."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import sims  # noqa: F401  (registers the environments)
from sims.gui.tasks.click_label import ClickLabel
from tests import fakes
from vla_rl.data import demos
from vla_rl.data.record import demonstrate
from vla_rl.models.backbone import Backbone
from vla_rl.specs import TASK

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
