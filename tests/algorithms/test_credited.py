"""What an algorithm makes of credit: as far as it is to be believed it takes the critic's place, and no further."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.algorithms.test_algorithms import CONFIGS
from tests.algorithms.test_pa_rl import SETTINGS, accuracy, bandit, make
from vla_rl import build
from vla_rl.algorithms import losses
from vla_rl.algorithms.configs import FilteredBc, PaRl
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.config import load
from vla_rl.registry import ConfigError
from vla_rl.specs import CREDIT


def test_credit_counts_as_far_as_it_is_to_be_believed() -> None:
    guess = torch.tensor([0.1, 0.2, -0.4])
    credit = torch.tensor([[0.5, 1.0], [9.0, 0.0], [0.0, 0.25]])
    torch.testing.assert_close(losses.credited(guess, credit), torch.tensor([0.5, 0.2, -0.3]))
    assert losses.credited(guess, None) is guess


def test_the_replayed_decision_is_worth_the_usual_and_its_credit(random_backbone: Path) -> None:
    algorithm = make(random_backbone, PaRl(**{**vars(SETTINGS), "self_imitation": False}))
    batch, start = bandit(algorithm, 16, seed=0), algorithm.learner.state_dict()

    def weights(credit: np.ndarray | None) -> torch.Tensor:
        """Of the replayed decision of each row."""
        batch.extra = {} if credit is None else {CREDIT.name: credit.astype(np.float32)}
        rows = LearnerBatch.of(batch, algorithm.policy, algorithm.learner.device)
        algorithm.learner.load_state_dict(start)  # the same candidates each time
        return algorithm.weigh_candidates(algorithm.policy.logits(rows.grounded), rows)[1][:, -1]

    told = np.zeros((16, 2))
    told[:4], told[4:8] = (1.0, 1.0), (-1.0, 1.0)
    plain, credited = weights(None), weights(told)
    assert (credited[:4] > 0.99).all()
    assert (credited[4:8] < 0.01).all()
    torch.testing.assert_close(weights(np.zeros((16, 2))), plain)


@pytest.mark.parametrize("name", ["pa_rl", "awac", "recap"])
def test_what_no_return_tells_is_learnt_from_credit(random_backbone: Path, name: str) -> None:
    changed = {"actor_lr": 1e-2, "warmup_updates": 10} | ({"self_imitation": False} if name == "pa_rl" else {})
    algorithm = make(random_backbone, type(CONFIGS[name])(**vars(CONFIGS[name]) | changed))
    assert accuracy(algorithm) < 0.7
    for step in range(150):
        batch = bandit(algorithm, 64, seed=step)
        batch.extra[CREDIT.name] = np.stack([batch.reward - 0.25, np.ones(64, np.float32)], 1).astype(np.float32)
        batch.reward, batch.returns = np.zeros_like(batch.reward), np.zeros_like(batch.returns)
        algorithm.update(batch)
    assert accuracy(algorithm) > 0.9


def test_components_are_named_in_a_config_and_wrong_ones_are_refused() -> None:
    run = load(["algorithm=pa_rl", "algorithm.credit={type: lambda, decay: 0.8}", "algorithm.mc_weight=1"])
    assert (run.algorithm.mc_weight, run.algorithm.needs.going_on) == (0.0, 0.8)
    assert load(["algorithm=iql", "algorithm.credit={type: anchor_states, least: 3}"]).algorithm.credit.least == 3
    with pytest.raises(ConfigError, match="milestones"):
        load(["algorithm.credit={type: milestone}"])
    both = load(["algorithm.credit={type: milestones}", "replay.on_episode=[{type: verified_reward}]"])
    with pytest.raises(ConfigError, match=r"replay\.on_episode, algorithm\.credit: 'reward' is a column already"):
        build.listeners(both, build.credit_book(both))
    with pytest.raises(ConfigError, match="imitates episodes as a whole"):
        load(["algorithm=filtered_bc", "algorithm.credit={type: milestones}"])
    assert not hasattr(FilteredBc(), "credit")
