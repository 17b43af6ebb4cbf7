"""Lanes that act by the critic, and an actor that does without it where acting by it was found to harm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.algorithms.test_pa_rl import BINS, SETTINGS, STATES, accuracy, bandit, make
from vla_rl.algorithms.acting import best_of, ways_of
from vla_rl.algorithms.configs import Iql, PaRl, Recap
from vla_rl.algorithms.pa_rl import PaRlAlgorithm
from vla_rl.models.features import Features
from vla_rl.specs import ACTING, BY_CRITIC, GREEDY, LOG_PROB, SAMPLED, STATE, TASK

LANES = 16


def seen(rows: int) -> dict[str, Any]:
    pictures = np.zeros((rows, 64, 64, 3), np.uint8)
    return {"observation.images.front": pictures, STATE: np.zeros((rows, STATES), np.float32), TASK: ["x"] * rows}


def likes_the_last_bin(grounded: Features, tokens_BNK: torch.Tensor) -> torch.Tensor:
    assert len(grounded) == len(tokens_BNK)
    return tokens_BNK.sum(-1).float()


def acting(folder: Path, **settings: Any) -> PaRlAlgorithm:
    algorithm = make(folder, replace(SETTINGS, critic_samples=64, **settings))
    algorithm.judge = likes_the_last_bin
    return algorithm


@pytest.mark.parametrize("shares", [(0.25, 0.25), (0.5, 0.5), (0.0, 0.125), (0.75, 0.25), (0.25, 0.0)])
def test_each_way_of_acting_has_its_share_of_the_lanes(shares: tuple[float, float]) -> None:
    ways = ways_of(*shares, np.arange(LANES))
    assert ((ways == GREEDY).sum(), (ways == BY_CRITIC).sum()) == tuple(round(share * LANES) for share in shares)
    assert np.array_equal(ways == GREEDY, ways_of(shares[0], 0.0, np.arange(LANES)) == GREEDY), "whoever else acts"


@pytest.mark.parametrize("groups", [1, 3, 16])
def test_lanes_of_the_critic_take_the_best_of_its_samples_once_the_actor_learns(
    random_backbone: Path, groups: int
) -> None:
    algorithm = acting(random_backbone, critic_share=0.25, greedy_share=0.25, warmup_updates=2)

    def explored() -> tuple[np.ndarray, np.ndarray]:
        parts = [slice(int(lanes[0]), int(lanes[-1]) + 1) for lanes in np.array_split(np.arange(LANES), groups)]
        made = [algorithm.explore(seen(part.stop - part.start), part) for part in parts]
        assert all(np.isfinite(each.extras[LOG_PROB]).all() for each in made)
        return tuple(np.concatenate(each) for each in zip(*((d.tokens, d.extras[ACTING]) for d in made), strict=True))

    tokens, ways = explored()
    assert not ways.any(), "there is nothing to compare yet"
    assert (tokens == BINS - 1).all(1).sum() < LANES / 4
    algorithm.updates = 3
    tokens, ways = explored()
    assert np.array_equal(ways, ways_of(0.25, 0.25, np.arange(LANES)))
    assert (tokens[ways == BY_CRITIC] == BINS - 1).all()
    assert (tokens[ways == SAMPLED] == BINS - 1).all(1).mean() < 0.5
    assert len(np.unique(tokens[ways == GREEDY], axis=0)) == 1


def test_the_critic_decides_between_decisions_that_the_policy_takes_about_as_often(random_backbone: Path) -> None:
    policy, samples = make(random_backbone).policy, 16
    logits = policy.logits(policy.ground(seen(LANES)))
    noise = torch.rand(LANES, samples, len(policy.slots)).clamp(1e-6, 1 - 1e-6)
    grounded, greedy = policy.ground(seen(LANES)), policy.greedy(logits)
    tokens = torch.cat([greedy.unsqueeze(1), policy.sample(logits, samples, noise)], dim=1)
    likely, worth = policy.log_prob(logits, tokens), likes_the_last_bin(grounded, tokens)
    best, q = best_of(policy, likes_the_last_bin, grounded, logits, noise)
    for row in range(LANES):
        spread = float(np.std(worth[row].numpy()))
        sums = [float(worth[row, n]) / spread + float(likely[row, n]) for n in range(1 + samples)]
        assert torch.equal(best[row], tokens[row, int(np.argmax(sums))])
    assert torch.equal(q, likes_the_last_bin(grounded, best.unsqueeze(1)).squeeze(1))
    assert (q >= likes_the_last_bin(grounded, greedy.unsqueeze(1)).squeeze(1)).all(), "less likely, so worth more"
    indifferent, _ = best_of(policy, lambda _, decisions: torch.full(decisions.shape[:2], 0.5), grounded, logits, noise)
    assert torch.equal(indifferent, greedy)


def test_without_such_lanes_nothing_is_told_of_the_way(random_backbone: Path) -> None:
    algorithm = acting(random_backbone, greedy_share=0.5)
    algorithm.updates = 1
    assert set(algorithm.explore(seen(4)).extras) == {LOG_PROB}
    assert algorithm.settings.needs.best_of == 0
    assert ACTING not in [column.name for column in algorithm.settings.needs.columns]
    needs = acting(random_backbone, critic_share=0.5).settings.needs
    assert (needs.best_of, needs.columns[-1].name) == (64, ACTING)


@pytest.mark.parametrize("kind", [PaRl, Iql])
def test_an_actor_that_mistrusts_its_critic_clones_what_succeeded(random_backbone: Path, kind: type) -> None:
    common = {name: value for name, value in vars(SETTINGS).items() if name in kind.__dataclass_fields__}
    given = common | {"actor_lr": 3e-3, "critic_lr": 0.0, "critic_share": 0.25, "fallback": True}
    algorithm = make(random_backbone, kind(**given))
    algorithm.trust(False)
    for step in range(150):
        metrics = algorithm.update(bandit(algorithm, 64, step))
    assert metrics["actor/imitated"] == pytest.approx(1 / BINS, abs=0.2)
    assert accuracy(algorithm) > 0.9, "though the critic knows nothing"
    algorithm.trust(True)
    assert "actor/imitated" not in algorithm.update(bandit(algorithm, 64, 0))


def test_without_a_fallback_the_actor_follows_its_critic_whatever_is_found(random_backbone: Path) -> None:
    algorithm = make(random_backbone, replace(SETTINGS, critic_share=0.25))
    algorithm.trust(False)
    assert "actor/imitated" not in algorithm.update(bandit(algorithm, 64, 0))


def test_whether_it_trusts_its_critic_is_saved_and_restored(random_backbone: Path) -> None:
    settings = replace(SETTINGS, critic_share=0.25, fallback=True)
    algorithm, other = make(random_backbone, settings), make(random_backbone, settings)
    algorithm.trust(False)
    assert not other.falls_back
    other.load_state_dict(algorithm.state_dict())
    assert other.falls_back
    older = {name: value for name, value in algorithm.state_dict().items() if name != "trusted"}
    other.load_state_dict(older)
    assert not other.falls_back


def test_the_log_tells_how_well_it_orders_states(random_backbone: Path) -> None:
    algorithm = make(random_backbone, replace(SETTINGS, actor_lr=0.0, critic_lr=1e-2))
    found = [algorithm.update(bandit(algorithm, 64, step)) for step in range(81)]
    ordered = [float(each["q/orders_states"]) for each in found if "q/orders_states" in each]
    assert abs(ordered[0]) < 0.5
    assert ordered[-1] > 0.9


@pytest.mark.parametrize(
    ("kind", "wrong", "said"),
    [
        (
            PaRl,
            {"greedy_share": 0.75, "critic_share": 0.5},
            "greedy_share .* at most 1, got 0.75 . 0.5",
        ),
        (PaRl, {"fallback": True}, "fallback: needs lanes that act by the critic, such as critic_share=0.25"),
        (PaRl, {"critic_samples": 0}, "critic_samples must be at least 1"),
        (Recap, {"critic_share": 0.25}, "critic_share: recap's critic judges no decisions"),
    ],
)
def test_settings_that_do_not_fit_are_named(kind: type, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kind(**wrong)
