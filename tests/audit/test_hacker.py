"""The search for shortcuts, and an audit that trains a policy on what is paid."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from PIL import Image

from sims.screen.interaction import Interaction
from tests import fakes
from vla_rl import cli, config
from vla_rl.actions import Binned
from vla_rl.actions.command import KIND, Commands
from vla_rl.audit import command, findings, hacker, shortcuts
from vla_rl.audit.probes import Probe
from vla_rl.audit.scores import Played, ProbeScore
from vla_rl.cli import commands
from vla_rl.data.files import Episode
from vla_rl.rewards.gap import HackGap
from vla_rl.specs import IMAGES, STATE

SEEDS = range(300_000, 300_012)
SCREEN = Interaction(("click", "drag", "type", "key"))


class Paid(fakes.Line):
    """The line, which pays at the end of every episode."""

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        observation, _, terminated, truncated, info = super().step(action)
        return observation, float(terminated or truncated), terminated, truncated, info


gymnasium.register("fake/Paid-v0", entry_point=f"{__name__}:Paid")


def times(count: int) -> Callable[[], bool]:
    """Enough after so many attempts."""
    left = iter(range(count))
    return lambda: next(left, None) is None


def searched(env_id: str, attempts: int = 400) -> tuple[gymnasium.Env, shortcuts.Shortcuts]:
    env = gymnasium.make(env_id)
    tokens = Binned(5).bind(env.action_space)
    return env, shortcuts.search(env, SEEDS, times(attempts), np.random.default_rng(0), tokens)


def test_what_is_paid_sooner_than_the_honest_way_is_found() -> None:
    env, found = searched("fake/Gamed-v0")
    assert 0 < found.attempts <= 400
    sooner = {seed: episode for seed, episode in found.episodes.items() if reached(episode) > 0.5}
    assert sooner
    for seed, episode in found.episodes.items():
        assert len(episode) <= len(shortcuts.honest(env, seed))
        assert episode.reward.sum() > 0
        assert episode.terminated[-1]


def reached(episode: Episode) -> float:
    return float(episode.observations[STATE][-1, 0])


def test_what_is_paid_soonest_comes_first() -> None:
    _, wild = searched("fake/Wild-v0", 40)
    lengths = [len(each) for each in wild.soonest(5)]
    assert lengths == sorted(map(len, wild.episodes.values()))[:5]
    one, other = list(wild.episodes.values())[:2]
    known = shortcuts.Shortcuts({1: one, 2: other}, {1: 10 * len(one), 2: 2 * len(other)})
    assert known.soonest(1) == [one]


def test_where_nothing_is_paid_for_less_shortcuts_are_honest() -> None:
    _, found = searched("fake/Line-v0", 200)
    assert all(abs(reached(episode)) < 0.1 for episode in found.episodes.values())


def test_without_an_expert_whatever_is_paid_is_found_and_the_shortest_kept() -> None:
    _, found = searched("fake/Wild-v0", 100)
    assert found.episodes
    assert all(episode.reward.sum() == 1 for episode in found.episodes.values())


def test_a_part_of_a_way_is_replaced_by_no_more_actions() -> None:
    rng, way = np.random.default_rng(0), list("abcdef")
    plans = [shortcuts.shortened(way, rng) for _ in range(1000)]
    assert {len(plan) for plan in plans} == {0, 1, 2, 3, 4, 5, 6}
    for plan in plans:
        wild = plan.count(None)
        begin = plan.index(None) if wild else 0
        kept = [action for action in plan if action is not None]
        assert wild <= shortcuts.MOST_WILD
        assert kept == sorted(kept)
        assert not wild or plan == [*kept[:begin], *[None] * wild, *kept[begin:]]
    assert ["a", None, "f"] in plans


def test_gestures_of_every_kind_are_tried_on_what_is_drawn_and_along_it() -> None:
    space, rng = SCREEN.space((96, 96)), np.random.default_rng(0)
    assert isinstance(space, Commands)
    space.seed(0)
    picture = np.zeros((96, 96, 3), np.uint8)
    picture[40:48, 20:70] = 255  # a bar
    seen, on_bar, along, drags = {f"{IMAGES}screen": picture}, 0, 0, 0
    kinds = set()
    for _ in range(600):
        action = shortcuts.wild_action(space, seen, rng)
        assert space.contains(action)
        kind = space.kinds[int(action[KIND])]
        kinds.add(kind)
        if "at" in space.takes[kind]:
            x, y = action["at"] / space["at"].high * 96
            on_bar += 18 < x < 72 and 38 < y < 50
        if kind == "drag":
            drags += 1
            along += bool((action["at"] == action["to"]).any())
    assert kinds == set(space.kinds)
    assert on_bar > 150
    assert along > drags / 3


def scored(paid: int, done: int, episodes: int = 50) -> hacker.Hacked:
    played = tuple(Played(k < done, k < paid, False, 3, 0.0) for k in range(episodes))
    return hacker.Hacked(ProbeScore(Probe(hacker.NAME, None), played), 9, 1, ())  # type: ignore[arg-type]


def test_a_gap_fails_an_audit_once_its_interval_is_above_0() -> None:
    assert not [*findings.hacked(scored(40, 40).gap)]
    assert not [*findings.hacked(scored(41, 40).gap)]
    (reason,) = findings.hacked(scored(40, 10).gap)
    assert reason.startswith("the reward can be gamed: a policy that was trained on it is paid 60 points more")
    assert scored(40, 10).as_json()["hack_gap_ci95"] == list(HackGap(30, 0, 50).interval)


@pytest.mark.parametrize(("env_id", "gamed"), [("fake/Paid-v0", True), ("fake/Line-v0", False)])
def test_an_audit_trains_a_policy_on_what_is_paid(
    line: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    env_id: str,
    gamed: bool,
) -> None:
    monkeypatch.setattr(command, "DEMOS", 2)
    own = [f"env.id={env_id}", "train.minutes=0.01", "train.steps=64", "demos.episodes=4", "sft.steps=4"]
    code = cli.main(["audit", *line, *own, "--train-hacker", "--episodes", "12", "--json"])
    found = json.loads(capsys.readouterr().out)
    trained = found["trained"]
    assert (trained["policy"], trained["episodes"]) == ("trained on what is paid", 12)
    assert any(reason.startswith("the reward can be gamed") for reason in found["reasons"]) == gamed
    assert (trained["hack_gap_ci95"][0] > 0) == gamed
    assert code == commands.AUDIT_FAILED  # the line's state leaks its answer, in any case
    assert bool(trained["strips"]) == gamed
    for strip in trained["strips"]:
        with Image.open(strip) as picture:
            assert picture.width >= picture.height
    assert config.load([f"run_dir={tmp_path}/run/trained", "resume=true"]).train.minutes > 0
