"""What an algorithm does once its world has shifted: what holds it, what it explores, and what old rows still count."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.adaptation.test_watch import episode
from tests.algorithms.test_algorithms import CONFIGS
from tests.algorithms.test_pa_rl import BINS, SETTINGS, STATES, bandit, make
from vla_rl.adaptation.on_shift import OnShift
from vla_rl.algorithms.adapting import LEAST, log_likelihood
from vla_rl.algorithms.configs import FilteredBc, PaRl
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.replay import Batch
from vla_rl.runtime.serialization import load_state, save_state
from vla_rl.specs import STATE, TASK, VALUE, VERIFIED

ADAPTS = OnShift(skip=0, steps=400, epsilon=0.5, greedy=0.0, anchor=0.25, rate=1.0, recent=0.5)


def adapts(folder: Path, adaptation: OnShift = ADAPTS, **more: Any) -> Any:
    return make(folder, replace(SETTINGS, adaptation=adaptation, **more))


def shifted(algorithm: Any, begin: int = 0) -> int:
    """Have it hear of a hundred episodes that succeed, then of some that do not; the first row of those."""
    for number in range(begin, begin + 130):
        algorithm.adapting.watch.on_episode(episode(number, number < begin + 100))
    algorithm.anneal(0.5)
    return 10 * (begin + 100)


def seen(right: np.ndarray) -> dict[str, Any]:
    images = np.zeros((len(right), 64, 64, 3), np.uint8)
    return {
        "observation.images.front": images,
        STATE: np.eye(STATES, dtype=np.float32)[right],
        TASK: ["x"] * len(right),
    }


def test_off_it_asks_for_nothing_and_on_it_asks_for_what_it_needs(random_backbone: Path) -> None:
    off, on = make(random_backbone), adapts(random_backbone)
    assert off.adapting is None
    assert not off.listeners
    assert not off.settings.needs.adapts
    assert VALUE not in [column.name for column in off.settings.needs.columns]
    assert VALUE not in off.explore(seen(np.arange(3))).extras
    assert on.settings.needs.adapts
    assert on.settings.needs.listens
    assert VALUE in [column.name for column in on.settings.needs.columns]


@pytest.mark.parametrize("name", ["pa_rl", "awac", "iql", "recap"])
def test_what_the_critic_promises_is_remembered_of_every_decision(random_backbone: Path, name: str) -> None:
    algorithm = make(random_backbone, replace(CONFIGS[name], adaptation=ADAPTS))
    decision = algorithm.explore(seen(np.arange(3)))
    assert decision.extras[VALUE].shape == (3,)
    assert decision.extras[VALUE].dtype == np.float32
    batch = bandit(algorithm, 64, seed=0)
    shifted(algorithm)
    assert all(torch.isfinite(value).all() for value in algorithm.update(batch).values())


def test_after_an_alarm_it_explores_more_and_is_held_less_and_then_as_usual_again(random_backbone: Path) -> None:
    algorithm = adapts(random_backbone, final_lr=0.0, greedy_share=0.5, epsilon=0.1)
    algorithm.anneal(0.5)
    assert algorithm.recent == (0, 0.0)
    assert (algorithm.explorer.epsilon, algorithm.explorer.greedy_share) == (0.1, 0.5)
    first = shifted(algorithm)
    since, share = algorithm.recent
    assert since == first
    assert share == pytest.approx(0.5, abs=0.1)
    assert algorithm.explorer.epsilon == pytest.approx(0.5, abs=0.1)
    assert algorithm.explorer.greedy_share < 0.1
    assert algorithm.adapting.response.anchor < 0.4
    assert algorithm.critic_optimizer.param_groups[0]["lr"] > 0.8 * algorithm.settings.critic_lr
    for number in range(130, 430):
        algorithm.adapting.watch.on_episode(episode(number, False))
    algorithm.anneal(0.5)
    assert algorithm.recent == (first, 0.0)
    assert (algorithm.explorer.epsilon, algorithm.explorer.greedy_share) == (0.1, 0.5)
    assert algorithm.adapting.response.anchor == 1
    assert algorithm.critic_optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * algorithm.settings.critic_lr)


def turned(batch: Batch) -> Batch:
    """The same decisions where the next bin pays instead."""
    right = (batch.observation[STATE].argmax(1) + 1) % BINS
    batch.reward = batch.returns = (batch.tokens[:, 0] == right).astype(np.float32)
    return batch


@pytest.fixture(scope="module")
def known(random_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """What is saved of an algorithm whose critic knew one world at the alarm, and knows another one by now."""
    algorithm = adapts(random_backbone, actor_lr=0.0)
    for step in range(120):
        algorithm.update(bandit(algorithm, 64, seed=step))
    shifted(algorithm)
    for step in range(150):
        batch = turned(bandit(algorithm, 64, seed=1000 + step))
        batch.index = batch.index + 10_000
        algorithm.update(batch)
    folder = tmp_path_factory.mktemp("known")
    save_state(folder, algorithm.state_dict())
    return folder, algorithm.adapting.watch.state_dict()


@pytest.fixture
def knows_both(random_backbone: Path, known: tuple[Path, dict[str, Any]]) -> Any:
    """That algorithm, which goes on."""
    algorithm = adapts(random_backbone, actor_lr=0.0)
    algorithm.load_state_dict(load_state(known[0]))
    algorithm.adapting.watch.load_state_dict(known[1])
    return algorithm


def test_rows_from_before_count_as_far_as_they_still_predict(knows_both: Any) -> None:
    algorithm = knows_both
    batch = bandit(algorithm, 256, seed=7)
    still = turned(bandit(algorithm, 256, seed=7)).returns == batch.returns
    rows = LearnerBatch.of(batch, algorithm.policy, algorithm.learner.device)
    weighed = algorithm.adapting.weigh(rows, batch.index, algorithm.critic)
    trust = weighed.trust.numpy()
    assert trust[still].mean() > 0.8
    assert trust[~still].mean() < 0.3
    assert trust.max() <= 1
    np.testing.assert_array_equal(weighed.weight.numpy(), trust)
    # Under the definition: the likelihood by now as a share of that of then.
    told = [algorithm.told(critic, rows).detach().numpy() for critic in (algorithm.critic, *algorithm.adapting.former)]
    now, then = (np.clip((each + 0.1) / 1.2, LEAST, 1 - LEAST) for each in told)
    share = (batch.returns + 0.1) / 1.2
    ratio = (now / then) ** share * ((1 - now) / (1 - then)) ** (1 - share)
    np.testing.assert_allclose(trust, np.minimum(ratio, 1), rtol=1e-4)


def test_new_rows_count_wholly_shown_ones_as_old_ones_and_unknown_ones_as_those_on_average(knows_both: Any) -> None:
    algorithm, adapting = knows_both, knows_both.adapting
    batch = bandit(algorithm, 64, seed=7)

    def trust(**changed: Any) -> np.ndarray:
        rows = LearnerBatch.of(replace(batch, **changed), algorithm.policy, algorithm.learner.device)
        return adapting.weigh(rows, changed.get("index", batch.index), algorithm.critic).trust.numpy()

    old = trust()
    np.testing.assert_array_equal(trust(index=batch.index + 10_000), 1)
    np.testing.assert_array_equal(trust(index=batch.index + 10_000, demo=np.ones(64, bool)), old)
    returns = batch.returns.copy()
    returns[:8] = np.nan
    found = trust(returns=returns)
    np.testing.assert_allclose(found[:8], old[8:].mean(), rtol=1e-5)
    np.testing.assert_array_equal(found[8:], old[8:])


def test_what_a_former_shift_made_worthless_stays_so_after_the_next_one(knows_both: Any) -> None:
    algorithm = knows_both
    shifted(algorithm, begin=500)
    assert len(algorithm.adapting.former) == 2
    batch = bandit(algorithm, 256, seed=7)
    still = turned(bandit(algorithm, 256, seed=7)).returns == batch.returns
    rows = LearnerBatch.of(batch, algorithm.policy, algorithm.learner.device)
    assert algorithm.adapting.weigh(rows, batch.index, algorithm.critic).trust.numpy()[~still].mean() < 0.3


def test_the_likelihood_is_highest_where_the_critic_was_right() -> None:
    told = torch.linspace(0.05, 0.95, 19)
    for share in (0.2, 0.5, 0.9):
        assert told[log_likelihood(torch.tensor(share), told).argmax()] == pytest.approx(share, abs=0.03)
    assert torch.isnan(log_likelihood(torch.tensor(float("nan")), told)).all()


def test_a_saved_one_goes_on(knows_both: Any, random_backbone: Path, tmp_path: Path) -> None:
    first, second = knows_both, adapts(random_backbone, actor_lr=0.0)
    save_state(tmp_path / "state", first.state_dict())
    second.load_state_dict(load_state(tmp_path / "state"))
    second.adapting.watch.load_state_dict(first.adapting.watch.state_dict())
    assert second.recent == first.recent > (0, 0.0)
    assert vars(second.adapting.response) == vars(first.adapting.response)
    assert second.explorer.epsilon == first.explorer.epsilon > 0
    batch = bandit(first, 64, seed=7)
    one, two = first.update(batch), second.update(batch)
    assert one.keys() == two.keys()
    assert "shift/trust" in one
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_an_algorithm_without_a_critic_says_why_it_cannot(random_backbone: Path) -> None:
    assert "adaptation" in FilteredBc.refused
    with pytest.raises(ValueError, match="adaptation: null, or a component such as"):
        PaRl(adaptation="yes")


class Small:
    """A small world of one-step episodes, and all that is remembered of it; another bin pays once `shift` says so."""

    def __init__(self, algorithm: Any) -> None:
        self.algorithm, self.rng, self.shift = algorithm, np.random.default_rng(0), 0
        self.states = np.zeros(0, np.int64)
        self.tokens, self.won = np.zeros((0, 2), np.int64), np.zeros(0, bool)

    def remember(self, states: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Whether these decisions succeed, bool [B]."""
        won = tokens[:, 0] == (states + self.shift) % BINS
        self.states, self.won = np.append(self.states, states), np.append(self.won, won)
        self.tokens = np.concatenate([self.tokens, tokens])
        return won

    def act(self, decisions: int = 16) -> None:
        """As the policy explores; whoever listens hears of it."""
        states, first = self.rng.integers(STATES, size=decisions), len(self.states)
        for lane, won in enumerate(self.remember(states, self.algorithm.explore(seen(states)).tokens)):
            ended = replace(episode(0, bool(won)), ids=np.array([first + lane]), reward=np.array([won], np.float32))
            for listener in self.algorithm.listeners:
                listener.on_episode(replace(ended, signals={VERIFIED: np.array([won])}))

    def learn(self, rows: int = 64) -> None:
        """From rows that are drawn as replay draws them."""
        self.algorithm.anneal(0.5)
        (since, share), count = self.algorithm.recent, len(self.states)
        recent = round(rows * share)
        index = np.append(self.rng.integers(since, count, recent), self.rng.integers(0, count, rows - recent))
        batch = bandit(self.algorithm, rows, seed=0)
        batch.observation[STATE] = np.eye(STATES, dtype=np.float32)[self.states[index]]
        batch.tokens = batch.labels = self.tokens[index]
        batch.reward = batch.returns = self.won[index].astype(np.float32)
        batch.index = index
        self.algorithm.update(batch)

    @property
    def success(self) -> float:
        """Of the greedy policy."""
        batch = bandit(self.algorithm, 64, seed=99)
        rows = LearnerBatch.of(batch, self.algorithm.policy, self.algorithm.learner.device)
        right = (batch.observation[STATE].argmax(1) + self.shift) % BINS
        return float((self.algorithm.policy.greedy(rows.grounded)[:, 0].numpy() == right).mean())


def recovered(folder: Path, adaptation: OnShift | None, turns: int = 100) -> float:
    """The success of the greedy policy so many turns after a shift, with much to remember of the world before."""
    world = Small(make(folder, replace(SETTINGS, adaptation=adaptation, actor_lr=1e-2, warmup_updates=60)))
    world.remember(world.rng.integers(STATES, size=4000), world.rng.integers(BINS, size=(4000, 2)))
    for _ in range(200):
        world.learn()
    assert world.success == 1
    world.act(160)
    world.shift = 1
    for _ in range(turns):
        world.act()
        world.learn()
    return world.success


@pytest.mark.slow
def test_with_much_to_remember_a_run_that_adapts_recovers_and_one_that_does_not_stands_still(
    random_backbone: Path,
) -> None:
    assert recovered(random_backbone, OnShift(skip=0, steps=2000)) > 0.4
    assert recovered(random_backbone, None) < 0.1
