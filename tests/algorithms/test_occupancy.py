"""What straying costs: density ratios, costs to come and best policies that are known, and what resumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.algorithms.test_algorithms import CONFIGS
from tests.algorithms.test_pa_rl import BINS, SETTINGS, STATES, bandit, make
from vla_rl.algorithms.configs import FilteredBc, PaRl, Recap
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.algorithms.occupancy import Occupancy
from vla_rl.replay import Batch
from vla_rl.rewards.occupancy import ChiSquared
from vla_rl.runtime.serialization import load_state, save_state
from vla_rl.specs import STATE, TASK

GAMMA = 0.8
PLAIN = ChiSquared(reference="demos", most=50.0)


def rows_of(algorithm: Any, states: np.ndarray, tokens: np.ndarray, demo: np.ndarray, **told: np.ndarray) -> Batch:
    """Transitions of one step; the second slot of a decision means nothing."""
    count = len(states)
    shapes = algorithm.policy.cached_features()
    features = {name: np.zeros((count, *shape), dtype) for name, (shape, dtype) in shapes.items()}
    seen = {STATE: np.eye(STATES, dtype=np.float32)[states], TASK: ["x"] * count}
    after = {STATE: np.eye(STATES, dtype=np.float32)[told.get("following", states)], TASK: ["x"] * count}
    pairs = np.stack([tokens, np.zeros_like(tokens)], 1)
    reward = told.get("reward", np.zeros(count)).astype(np.float32)
    return Batch(
        observation=seen,
        next_observation=after,
        tokens=pairs,
        labels=pairs,
        reward=reward,
        discount=told.get("discount", np.zeros(count)).astype(np.float32),
        returns=told.get("returns", reward).astype(np.float32),
        features=features,
        next_features=features,
        demo=demo,
        weight=np.ones(count, np.float32),
        index=np.arange(count),
        steps=np.ones(count, np.int64),
    )


def update(occupancy: Occupancy, algorithm: Any, batch: Batch, following: torch.Tensor | None = None) -> dict:
    rows = LearnerBatch.of(batch, algorithm.policy, algorithm.learner.device)
    return occupancy.update(rows, batch, True, lambda: following)


def test_the_discriminator_tells_the_density_ratio(random_backbone: Path) -> None:
    """Of a table of states and decisions whose frequencies are known."""
    algorithm = make(random_backbone, replace(SETTINGS, occupancy=PLAIN, critic_lr=3e-3))
    occupancy, rng = algorithm.occupancy, np.random.default_rng(0)
    assert occupancy is not None
    own, reference = (rng.dirichlet(np.full(STATES * 2, 3.0)) for _ in range(2))
    for _ in range(400):
        cells = np.concatenate([rng.choice(STATES * 2, 128, p=p) for p in (own, reference)])
        update(occupancy, algorithm, rows_of(algorithm, cells // 2, cells % 2, np.arange(256) >= 128))
    cells = np.arange(STATES * 2)
    table = rows_of(algorithm, cells // 2, cells % 2, np.zeros(len(cells), bool))
    rows = LearnerBatch.of(table, algorithm.policy, algorithm.learner.device)
    with torch.no_grad():
        told = occupancy.log_ratio(rows.grounded, rows.tokens).exp().numpy()
    np.testing.assert_allclose(told, own / reference, rtol=0.25)
    assert occupancy.excess == pytest.approx((own**2 / reference).sum() - 1, rel=0.3)


def test_the_critic_tells_the_discounted_straying_to_come(random_backbone: Path) -> None:
    """Of a chain of states with two decisions, whose costs to come are worked out step by step."""
    algorithm = make(random_backbone, replace(SETTINGS, occupancy=PLAIN, critic_lr=3e-3, target_ema=0.1))
    occupancy, rng = algorithm.occupancy, np.random.default_rng(0)
    assert occupancy is not None
    ratio = rng.uniform(0.3, 3.0, (STATES, 2)).astype(np.float32)
    table = torch.from_numpy(ratio)
    occupancy.log_ratio = lambda grounded, tokens: table[grounded.state.argmax(1), tokens[:, 0]].log()  # type: ignore[method-assign]
    occupancy._tell_apart = lambda rows, own: {}  # type: ignore[method-assign]
    # Decision 0 stays, 1 goes on to the next state, and leaves the last one for good; the policy always goes on.
    exact = np.zeros((STATES + 1, 2))
    for state in reversed(range(STATES)):
        exact[state, 1] = ratio[state, 1] - 1 + GAMMA * exact[state + 1, 1]
        exact[state, 0] = ratio[state, 0] - 1 + GAMMA * exact[state, 1]
    going_on = torch.tensor([[[1, 0]]])
    for _ in range(500):
        states, tokens = rng.integers(STATES, size=64), rng.integers(2, size=64)
        told = {"following": np.minimum(states + tokens, STATES - 1), "discount": GAMMA * (states + tokens < STATES)}
        batch = rows_of(algorithm, states, tokens, np.zeros(64, bool), **told)
        batch.steps[::4] = 3  # of more than one step, such rows say nothing of what came between
        batch.next_observation[STATE][::4] = 0.0
        update(occupancy, algorithm, batch, going_on.expand(64, 1, 2))
    cells = np.arange(STATES * 2)
    rows = LearnerBatch.of(
        rows_of(algorithm, cells // 2, cells % 2, np.zeros(len(cells), bool)),
        algorithm.policy,
        algorithm.learner.device,
    )
    found = -occupancy.rank(torch.zeros(len(cells), 1), rows.grounded, rows.tokens.unsqueeze(1)) / occupancy.rank.price
    np.testing.assert_allclose(found[:, 0].numpy(), exact[:STATES].ravel(), atol=0.25)


def best_penalised(reward: np.ndarray, reference: np.ndarray, weight: float) -> np.ndarray:
    """The policy of one step that maximises E[reward] - weight * chi^2: mu = ref * [(r - c) / 2 weight + 1]_+, where c
    has it sum to 1."""
    low, high = reward.min() - 10 * weight - 10, reward.max() + 10
    for _ in range(200):
        c = (low + high) / 2
        mu = reference * np.maximum((reward - c) / (2 * weight) + 1, 0)
        low, high = (c, high) if mu.sum() > 1 else (low, c)
    return mu / mu.sum()


def decided(algorithm: Any, states: np.ndarray) -> np.ndarray:
    """What the policy decides in states, a sample of each."""
    batch = rows_of(algorithm, states, np.zeros_like(states), np.zeros(len(states), bool))
    seen = LearnerBatch.of(batch, algorithm.policy, algorithm.learner.device).grounded
    return algorithm.policy.sample(seen, 1, algorithm.noise(len(states), 1))[:, 0, 0].numpy()


@pytest.mark.parametrize("name", ["pa_rl", "awac"])
def test_the_proxy_is_not_followed_to_where_the_reference_hardly_goes(random_backbone: Path, name: str) -> None:
    """The last bin pays the proxy most, and the reference never takes it; the one before pays less, and it often does.
    By the known optimum, all but a little is decided so."""
    reference = np.array([0.1, 0.1, 0.3, 0.499, 0.001])
    pays = np.array([0.0, 0.0, 0.3, 0.7, 1.0])
    weight = 0.2
    best = best_penalised(pays, reference, weight)
    assert best[-1] < 0.1 < 0.5 < best[3]
    taken = {}
    for use in (None, ChiSquared(weight, root=False, reference="demos", recent=2048, most=50.0)):
        settings = replace(
            CONFIGS[name], occupancy=use, actor_lr=1e-2, critic_lr=3e-3, warmup_updates=40, bc_weight=0.0
        )
        settings = replace(settings, self_imitation=False) if isinstance(settings, PaRl) else settings
        algorithm, rng, shares = make(random_backbone, settings), np.random.default_rng(0), list[np.ndarray]()
        index = 0
        for _ in range(220):
            states, shown = rng.integers(STATES, size=64), rng.choice(BINS, 32, p=reference)
            tokens = decided(algorithm, states)
            both = np.concatenate([np.where(rng.random(64) < 0.1, rng.integers(BINS, size=64), tokens), shown])
            batch = rows_of(
                algorithm,
                np.concatenate([states, rng.integers(STATES, size=32)]),
                both,
                np.arange(96) >= 64,
                reward=pays[both],
            )
            batch.index = index + np.arange(96)
            index += 64
            metrics = algorithm.update(batch)
            assert all(torch.isfinite(value).all() for value in metrics.values())
            shares.append(np.bincount(tokens, minlength=BINS) / 64)
        taken[use is not None] = np.mean(shares[-60:], 0)
    assert taken[False][-1] > 0.8  # the proxy is gamed,
    assert taken[True][-1] < 0.25  # and not where straying costs;
    assert taken[True][3] > 0.4  # what is honest and pays is still done.


@pytest.mark.parametrize("reference", ["demos", "start", "both"])
def test_what_the_start_policy_did_is_the_reference_until_the_actor_learns(
    random_backbone: Path, reference: str
) -> None:
    use = ChiSquared(reference=reference, start=40)  # type: ignore[arg-type]
    algorithm = make(random_backbone, replace(SETTINGS, occupancy=use, warmup_updates=4))
    occupancy = algorithm.occupancy
    assert occupancy is not None
    for step in range(8):
        algorithm.update(bandit(algorithm, 64, seed=step))
    kept = None if occupancy._start is None else occupancy._start[1]
    if reference == "demos":
        assert kept is None
        return
    assert kept is not None
    first = [bandit(algorithm, 64, seed=step).tokens[:10] for step in range(4)]
    np.testing.assert_array_equal(kept.numpy(), np.concatenate(first))


def test_decisions_of_long_ago_and_of_other_goals_do_not_tell_where_the_policy_goes(random_backbone: Path) -> None:
    algorithm = make(random_backbone, replace(SETTINGS, occupancy=ChiSquared(recent=10, reference="demos")))
    assert algorithm.occupancy is not None
    batch = bandit(algorithm, 30, seed=0)
    batch.demo[25:] = True
    batch.relabelled[24] = True
    assert algorithm.occupancy._own(batch).nonzero()[0].tolist() == [14, 15, 16, 17, 18, 19, 20, 21, 22, 23]


@pytest.mark.parametrize("name", ["pa_rl", "awac", "iql"])
def test_a_saved_one_goes_on_and_its_scorer_ranks_alike(random_backbone: Path, tmp_path: Path, name: str) -> None:
    settings = replace(CONFIGS[name], occupancy=ChiSquared(start=64), warmup_updates=2, critic_updates=1)
    first, second = make(random_backbone, settings), make(random_backbone, settings)
    for step in range(4):
        first.update(half_shown(first, step))
    first.policy.save_pretrained(tmp_path)
    second.policy.load_pretrained(tmp_path)
    save_state(tmp_path / "state", first.state_dict())
    state = load_state(tmp_path / "state")
    second.load_state_dict(state)
    batch = half_shown(first, 7)
    tokens = torch.randint(BINS, (64, 3, 2), generator=torch.Generator().manual_seed(0))
    grounded = LearnerBatch.of(batch, first.policy, first.learner.device).grounded
    loaded = settings.scorer(second.policy, state)
    assert first.scorer is not None
    assert loaded is not None
    torch.testing.assert_close(loaded(grounded, tokens), first.scorer(grounded, tokens))
    assert not torch.equal(loaded(grounded, tokens), first.judge(grounded, tokens))
    one, two = first.update(batch), second.update(batch)
    assert one.keys() == two.keys()
    assert {"occupancy/loss", "occupancy/log_ratio", "occupancy/penalty", "occupancy/divergence"} < one.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


def half_shown(algorithm: Any, seed: int) -> Batch:
    batch = bandit(algorithm, 64, seed=seed)
    batch.demo[32:] = True
    batch.steps[:] = 1
    return batch


def test_without_it_nothing_is_built_asked_or_saved(random_backbone: Path) -> None:
    algorithm = make(random_backbone)
    assert algorithm.occupancy is None
    assert algorithm.scorer is algorithm.judge
    assert algorithm.settings.needs.one_step == 0.0
    assert replace(SETTINGS, occupancy=PLAIN).needs.one_step == 0.5
    assert "occupancy" not in algorithm.state_dict()
    assert not any(name.startswith("occupancy/") for name in algorithm.update(bandit(algorithm, 64, seed=0)))


def test_prices_follow_the_divergence() -> None:
    assert ChiSquared(0.2).price(0.25) == pytest.approx(0.2 / 0.5)
    assert ChiSquared(0.2).price(0.0) == pytest.approx(0.2 / 0.1)
    assert ChiSquared(0.2, root=False).price(0.25) == pytest.approx(0.4)
    assert (ChiSquared().divergence(0.25), ChiSquared(root=False).divergence(-1.0)) == (0.5, 0.0)


def test_settings_name_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="occupancy: null, or a component"):
        PaRl(occupancy=0.2)
    with pytest.raises(ValueError, match="reference=demos needs demonstrations"):
        PaRl(occupancy=ChiSquared(reference="demos"), demo_share=0.0)
    with pytest.raises(ValueError, match=r"reference=start needs .* decisions before the actor learns"):
        PaRl(occupancy=ChiSquared(reference="start"), warmup_updates=0)
    with pytest.raises(ValueError, match="recap's critic judges no decisions"):
        Recap(occupancy=ChiSquared())
    assert "occupancy" in FilteredBc.refused
    with pytest.raises(ValueError, match="most: above 1"):
        ChiSquared(most=1.0)
