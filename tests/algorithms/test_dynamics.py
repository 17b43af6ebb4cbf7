"""The one-step model: it learns a world whose every step is known, and judges decisions by where they lead."""

import copy
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from gymnasium import spaces

from vla_rl.actions import Binned
from vla_rl.algorithms.configs import PaRl
from vla_rl.algorithms.critic import Critic
from vla_rl.algorithms.dynamics import Ahead, Dynamics, ModelScorer
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.algorithms.pa_rl import PaRlAlgorithm
from vla_rl.config.policy import HeadSettings, PolicySettings
from vla_rl.models.features import Features
from vla_rl.models.policy import Policy
from vla_rl.models.settings import Pretrained
from vla_rl.replay import Batch
from vla_rl.runtime.learner import Learner
from vla_rl.specs import STATE, TASK

BINS, STRIDE, GAMMA = 5, 0.1, 0.8
SETTINGS = PaRl(
    critic="model",
    gamma=GAMMA,
    mc_weight=0.0,
    warmup_updates=10_000,
    batch_size=128,
    critic_width=32,
    model_width=32,
    critic_lr=1e-2,
    model_lr=3e-3,
    target_ema=0.2,
)


def make(folder: Path, **changes: Any) -> PaRlAlgorithm:
    space = Binned(BINS).bind(spaces.Box(-1, 1, (1,)))
    policy = Policy.build(PolicySettings(Pretrained(str(folder)), HeadSettings(width=32)), space, ["front"], 2, seed=0)
    settings = PaRl(**{**vars(SETTINGS), **changes})
    torch.manual_seed(0)
    return settings.build(policy=policy, learner=Learner(device="cpu", seed=1))


def walk(algorithm: PaRlAlgorithm, rows: int, seed: int) -> Batch:
    """Steps along a line from -1 to 1: bins move by -2 to 2 strides, the end at 1 pays 1. A second number is noise."""
    rng = np.random.default_rng(seed)
    state = rng.uniform(-1, 1, (rows, 2)).astype(np.float32)
    tokens = rng.integers(BINS, size=(rows, 1))
    following = state.copy()
    following[:, 0] = np.clip(state[:, 0] + (tokens[:, 0] - BINS // 2) * STRIDE, -1, 1)
    won = following[:, 0] >= 1
    shapes = algorithm.policy.cached_features()
    features = {name: np.zeros((rows, *shape), dtype) for name, (shape, dtype) in shapes.items()}
    return Batch(
        observation={STATE: state, TASK: ["x"] * rows},
        next_observation={STATE: following, TASK: ["x"] * rows},
        tokens=tokens,
        labels=tokens,
        reward=won.astype(np.float32),
        discount=np.where(won, 0, GAMMA).astype(np.float32),
        returns=np.full(rows, np.nan, np.float32),
        features=features,
        next_features=features,
        demo=np.zeros(rows, bool),
        weight=np.ones(rows, np.float32),
        index=np.arange(rows),
        steps=np.ones(rows, np.int64),
    )


class Known:
    """A critic that knows what each place is worth, whatever is decided there."""

    edges = torch.tensor([-0.1, 1.1])

    def __call__(self, readout_BR: torch.Tensor, tokens_BNK: torch.Tensor, seen: Features) -> torch.Tensor:
        left = (1 - readout_BR[:, -2]) / (2 * STRIDE)  # the state comes last in the readout
        return (GAMMA**left).view(1, -1, 1).expand(-1, -1, tokens_BNK.shape[1])

    def value(self, logits_EBN: torch.Tensor) -> torch.Tensor:
        return logits_EBN


@pytest.fixture(scope="module")
def taught(random_backbone: Path) -> tuple[PaRlAlgorithm, dict[str, torch.Tensor]]:
    """Its model, of walks at random."""
    algorithm, metrics = make(random_backbone), dict[str, torch.Tensor]()
    assert algorithm.model is not None
    for step in range(400):
        rows = LearnerBatch.of(walk(algorithm, 128, seed=step), algorithm.policy, algorithm.learner.device)
        metrics = algorithm.model.update(rows)
    return algorithm, metrics


def every_decision(algorithm: PaRlAlgorithm, place: np.ndarray) -> tuple[LearnerBatch, torch.Tensor]:
    batch = walk(algorithm, len(place), seed=0)
    batch.observation[STATE][:, 0] = place
    rows = LearnerBatch.of(batch, algorithm.policy, algorithm.learner.device)
    return rows, torch.arange(BINS).view(1, BINS, 1).expand(len(place), -1, -1)


def test_it_tells_what_a_decision_leads_to(taught: tuple[PaRlAlgorithm, dict[str, torch.Tensor]]) -> None:
    algorithm, metrics = taught
    assert float(metrics["model/explained"]) > 0.95
    place = np.linspace(-0.7, 0.6, 14)
    rows, decisions = every_decision(algorithm, place)
    assert algorithm.model is not None
    ahead = algorithm.model.dynamics(algorithm.readout(rows.grounded), decisions, rows.grounded)
    told = ahead.readout.mean(0)[..., -2].detach().numpy()  # the state comes last in the readout
    moved = place[:, None] + (np.arange(BINS) - BINS // 2) * STRIDE
    assert np.abs(told - moved).max() < 0.05
    rows, decisions = every_decision(algorithm, np.array([0.95]))
    ahead = algorithm.model.dynamics(algorithm.readout(rows.grounded), decisions, rows.grounded)
    end = torch.sigmoid(ahead.end).mean(0)[0]
    assert (end[-2:] > 0.5).all()
    assert (end[:-2] < 0.5).all()
    assert (ahead.reward.mean(0)[0, -2:] > 0.5).all()


def test_it_ranks_decisions_by_where_they_lead(taught: tuple[PaRlAlgorithm, dict[str, torch.Tensor]]) -> None:
    algorithm, _ = taught
    assert algorithm.model is not None
    scorer = ModelScorer(algorithm.model.dynamics, cast(Critic, Known()), algorithm.policy, algorithm.settings)
    place = np.linspace(-0.7, 0.55, 10)
    rows, decisions = every_decision(algorithm, place)
    q = scorer(rows.grounded, decisions)
    moved = torch.from_numpy(place)[:, None] + (torch.arange(BINS) - BINS // 2) * STRIDE
    known = (GAMMA * GAMMA ** ((1 - moved) / (2 * STRIDE))).float()
    torch.testing.assert_close(q, known, atol=0.05, rtol=0)
    assert (q.argmax(1) == BINS - 1).all()
    rows, decisions = every_decision(algorithm, np.array([0.95]))
    assert scorer(rows.grounded, decisions)[0, -1] > 0.8  # the end pays, and nothing follows it


def test_v_is_the_critics_mean_value_of_the_policys_decisions_there(random_backbone: Path) -> None:
    """Of a model that says that nothing changes, it is so of what is there now."""
    algorithm = make(random_backbone, model_samples=2000)
    rows, decisions = every_decision(algorithm, np.array([0.1, 0.4]))
    readout = algorithm.readout(rows.grounded)
    nothing = torch.zeros(1, 2, BINS)
    still = Ahead(readout[None, :, None].expand(-1, -1, BINS, -1), nothing, nothing - 100)
    scorer = ModelScorer(cast(Dynamics, lambda *_: still), algorithm.critic, algorithm.policy, algorithm.settings)
    chances = algorithm.policy.log_prob(rows.grounded, decisions).exp()
    value = (algorithm.q(rows.grounded, decisions) * chances).sum(1, keepdim=True)
    q = scorer(rows.grounded, decisions)
    torch.testing.assert_close(q, GAMMA * value.expand_as(q), atol=0.01, rtol=0)


def test_both_is_the_mean_of_the_critic_and_the_model(random_backbone: Path) -> None:
    algorithm = make(random_backbone, critic="both")
    rows, decisions = every_decision(algorithm, np.linspace(-0.5, 0.5, 3))
    assert algorithm.model is not None
    mean = (algorithm.q(rows.grounded, decisions) + algorithm.model.scorer(rows.grounded, decisions)) / 2
    torch.testing.assert_close(algorithm.scorer(rows.grounded, decisions), mean)


def test_rows_of_several_steps_teach_the_model_nothing(random_backbone: Path) -> None:
    algorithm = make(random_backbone)
    assert algorithm.model is not None
    before = [parameter.clone() for parameter in algorithm.model.dynamics.parameters()]
    batch = walk(algorithm, 16, seed=0)
    batch.steps[:] = 3
    metrics = algorithm.update(batch)
    assert float(metrics["model/loss"]) == 0.0
    after = algorithm.model.dynamics.parameters()
    decay = 1 - SETTINGS.model_lr * SETTINGS.weight_decay
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new, old * decay)


@pytest.mark.parametrize("critic", ["model", "both"])
def test_what_was_learned_is_saved_and_judges_without_the_learner(random_backbone: Path, critic: str) -> None:
    algorithm = make(random_backbone, critic=critic)
    for step in range(3):
        algorithm.update(walk(algorithm, 16, seed=step))
    state = copy.deepcopy(algorithm.state_dict())
    rows, decisions = every_decision(algorithm, np.linspace(-0.5, 0.5, 3))
    q = algorithm.scorer(rows.grounded, decisions)
    alone = algorithm.settings.scorer(algorithm.policy, state)
    assert alone is not None
    torch.testing.assert_close(alone(rows.grounded, decisions), q)
    again = make(random_backbone, critic=critic)
    again.policy.load_state_dict(algorithm.policy.state_dict())
    again.load_state_dict(state)
    torch.testing.assert_close(again.scorer(rows.grounded, decisions), q)
    for step in range(3, 5):
        one, other = (each.update(walk(each, 16, seed=step)) for each in (algorithm, again))
        torch.testing.assert_close(one["model/loss"], other["model/loss"])


def test_each_state_has_a_temperature_of_its_own(random_backbone: Path) -> None:
    """Where all candidates are nearly alike, the batch's spread leaves no preference; the state's own does."""

    def effective(spread: str) -> torch.Tensor:
        algorithm = make(random_backbone, critic="direct", spread=spread, self_imitation=False, least_temperature=1e-6)
        rows, _ = every_decision(algorithm, np.array([0.0, 0.5]))
        algorithm.judge = lambda grounded, tokens: tokens[..., 0] * torch.tensor([[1e-3], [1.0]])
        _, weights, _ = algorithm.weigh_candidates(algorithm.policy.logits(rows.grounded), rows)
        return 1 / weights.square().sum(1)

    count = SETTINGS.candidates + 1
    assert effective("batch")[0] > 0.95 * count
    assert effective("state")[0] < 0.6 * count


def test_a_model_needs_rows_of_one_step() -> None:
    assert PaRl(critic="both").needs.one_step == 0.5
    assert PaRl().needs.one_step == 0.0
    with pytest.raises(ValueError, match="model_share is 0"):
        PaRl(critic="model", model_share=0.0)
