"""The algorithm on decisions whose right answer is known, and on several processes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from safetensors.torch import load_file

from tests.launch import in_processes
from vla_rl.actions import Binned
from vla_rl.algorithms.configs import PaRl
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.algorithms.pa_rl import PaRlAlgorithm
from vla_rl.config.policy import HeadSettings, LoraSettings, PolicySettings
from vla_rl.models.policy import Policy
from vla_rl.models.settings import Pretrained
from vla_rl.replay import Batch
from vla_rl.rollout.actor import Actor
from vla_rl.runtime.learner import Learner
from vla_rl.specs import STATE, TASK

BINS, STATES = 5, 4
SETTINGS = PaRl(
    warmup_updates=0,
    critic_updates=1,
    batch_size=64,
    actor_batch_size=64,
    critic_width=32,
    critic_lr=3e-3,
    bc_weight=0.0,
)


def make(
    folder: Path, settings: PaRl = SETTINGS, train: str = "head", sharding: str | None = None, **head: str
) -> PaRlAlgorithm:
    space = Binned(BINS).bind(spaces.Box(-1, 1, (2,)))
    said = HeadSettings(width=32, **head)  # type: ignore[arg-type]
    wanted = PolicySettings(Pretrained(str(folder)), said, train, LoraSettings(rank=2, alpha=4))
    torch.manual_seed(0)
    policy = Policy.build(wanted, space, ["front"], STATES, seed=0)
    return settings.build(policy=policy, learner=Learner(device="cpu", seed=1, sharding=sharding))


def bandit(algorithm: PaRlAlgorithm, rows: int, seed: int, images: bool = False) -> Batch:
    """One-step episodes: the state says which bin of the first slot pays; the second slot does not matter."""
    rng = np.random.default_rng(seed)
    right = rng.integers(STATES, size=rows)
    tokens = rng.integers(BINS, size=(rows, 2))
    reward = (tokens[:, 0] == right).astype(np.float32)
    observation = {STATE: np.eye(STATES, dtype=np.float32)[right], TASK: ["x"] * rows}
    shapes = algorithm.policy.cached_features()
    features = {name: np.zeros((rows, *shape), dtype) for name, (shape, dtype) in shapes.items()}
    if images:
        pixels = rng.integers(0, 256, size=(rows, 64, 64, 3)).astype(np.uint8)
        observation, features = {**observation, "observation.images.front": pixels}, {}
    return Batch(
        observation=observation,
        next_observation=observation,
        tokens=tokens,
        labels=tokens,
        reward=reward,
        discount=np.zeros(rows, np.float32),
        returns=reward,
        features=features,
        next_features=features,
        demo=np.zeros(rows, bool),
        weight=np.ones(rows, np.float32),
        index=np.arange(rows),
    )


def accuracy(algorithm: PaRlAlgorithm) -> float:
    batch = bandit(algorithm, 64, seed=99)
    rows = LearnerBatch.of(batch, algorithm.policy, algorithm.learner.device)
    right = torch.from_numpy(batch.observation[STATE].argmax(1))
    return float((algorithm.policy.greedy(rows.grounded)[:, 0] == right).float().mean())


def test_it_finds_the_decision_that_pays(random_backbone: Path) -> None:
    algorithm = make(random_backbone, PaRl(**{**vars(SETTINGS), "actor_lr": 3e-3, "warmup_updates": 100}))
    metrics: dict[str, torch.Tensor] = {}
    for step in range(250):
        metrics |= algorithm.update(bandit(algorithm, 64, seed=step))  # some are measured now and then only
    assert accuracy(algorithm) == 1.0
    assert abs(float(metrics["q/minus_return"])) < 0.1
    assert float(metrics["q/spread"]) > 0


def test_the_actor_waits_for_the_warm_up_and_the_demonstrations_anchor_it(random_backbone: Path) -> None:
    algorithm = make(random_backbone, PaRl(**{**vars(SETTINGS), "warmup_updates": 3}))
    before = [p.detach().clone() for p in algorithm.policy.trainable_parameters()]
    for step in range(3):
        assert "actor/improvement" not in algorithm.update(bandit(algorithm, 64, seed=step))
    assert all(torch.equal(a, b) for a, b in zip(before, algorithm.policy.trainable_parameters(), strict=True))
    assert "actor/improvement" in algorithm.update(bandit(algorithm, 64, seed=4))


def test_the_learning_rates_fall_in_a_straight_line(random_backbone: Path) -> None:
    algorithm = make(random_backbone, PaRl(**{**vars(SETTINGS), "final_lr": 0.1}))
    for done, share in ((0.0, 1.0), (0.5, 0.55), (1.0, 0.1)):
        algorithm.anneal(done)
        rates = [o.param_groups[0]["lr"] for o in (algorithm.critic_optimizer, algorithm.actor_optimizer)]
        assert rates == pytest.approx([algorithm.settings.critic_lr * share, algorithm.settings.actor_lr * share])


def test_the_critic_never_moves_the_trunk(random_backbone: Path) -> None:
    algorithm = make(random_backbone, train="all")
    rows = LearnerBatch.of(bandit(algorithm, 16, seed=0, images=True), algorithm.policy, algorithm.learner.device)
    before = {name: value.clone() for name, value in algorithm.policy.state_dict().items()}
    algorithm.update_critic(rows)
    assert all(torch.equal(value, before[name]) for name, value in algorithm.policy.state_dict().items())
    assert all(parameter.grad is None for parameter in algorithm.policy.parameters())
    algorithm.update_actor(rows)
    after = algorithm.policy.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert any(name.startswith("trunk.") for name in moved)
    assert not any(name.startswith("frozen.") for name in moved)


def test_best_of_many_takes_the_highest_value(random_backbone: Path) -> None:
    algorithm = make(random_backbone)
    for step in range(60):
        algorithm.update(bandit(algorithm, 64, seed=step))
    rng = np.random.default_rng(0)
    observation = {
        "observation.images.front": rng.integers(0, 256, size=(8, 64, 64, 3)).astype(np.uint8),
        STATE: np.eye(STATES, dtype=np.float32)[np.arange(8) % STATES],
        TASK: ["x"] * 8,
    }
    (_, one), (tokens, many) = (
        Actor(algorithm.policy, algorithm.scorer, best_of=count)(observation) for count in (1, 32)
    )
    assert many["q"].mean() > one["q"].mean()
    assert tokens.shape == (8, 2)


@pytest.mark.parametrize(("share", "expected"), [(0.5, 8), (0.1, 2), (0.25, 4), (1.0, 16), (0.0, 0)])
@pytest.mark.parametrize("groups", [1, 3, 16])
def test_the_greedy_share_holds_over_all_lanes_however_they_are_grouped(
    random_backbone: Path, share: float, expected: int, groups: int
) -> None:
    algorithm = make(random_backbone, PaRl(**{**vars(SETTINGS), "greedy_share": share}))
    greedy, counts = algorithm.policy.greedy, []
    algorithm.policy.greedy = lambda seen: (counts.append(len(seen[0])), greedy(seen))[1]  # type: ignore[method-assign]
    for lanes in np.array_split(np.arange(16), groups):
        seen = {"observation.images.front": np.zeros((len(lanes), 64, 64, 3), np.uint8), TASK: ["x"] * len(lanes)}
        seen[STATE] = np.zeros((len(lanes), STATES), np.float32)
        algorithm.explore(seen, slice(int(lanes[0]), int(lanes[-1]) + 1))
    assert sum(counts) == expected


@pytest.mark.parametrize("uniform", [0, 1])
def test_one_candidate_is_enough(random_backbone: Path, uniform: int) -> None:
    few = {"candidates": 1, "uniform_candidates": uniform}
    algorithm = make(random_backbone, PaRl(**{**vars(SETTINGS), **few}))
    metrics = [algorithm.update(bandit(algorithm, 16, seed)) for seed in range(3)]
    assert all(torch.isfinite(value).all() for found in metrics for name, value in found.items() if "actor" in name)
    assert all(torch.isfinite(parameter).all() for parameter in algorithm.policy.parameters())


def test_while_collecting_shares_of_the_rows_are_greedy_and_random(random_backbone: Path) -> None:
    observation = {
        "observation.images.front": np.zeros((64, 64, 64, 3), np.uint8), STATE: np.zeros((64, STATES), np.float32),
        TASK: ["x"] * 64,
    }  # fmt: skip
    algorithm = make(random_backbone, PaRl(**{**vars(SETTINGS), "greedy_share": 0.5}))
    (greedy, _), explored = Actor(algorithm.policy)(observation), algorithm.explore(observation)
    assert np.array_equal(explored.tokens[::2], greedy[::2])
    assert len(np.unique(explored.tokens[1::2], axis=0)) > 5
    with torch.no_grad():  # a policy that is sure of its decision
        algorithm.policy.head.bias[:, 0] = 100.0
    assert (algorithm.explore(observation).tokens == 0).all()
    straying = make(random_backbone, PaRl(**{**vars(SETTINGS), "epsilon": 0.5}))
    with torch.no_grad():
        straying.policy.head.bias[:, 0] = 100.0
    share = (straying.explore(observation).tokens != 0).any(1).mean()
    assert 0.25 < share < 0.75
    assert (Actor(straying.policy)(observation)[0] == 0).all()


@pytest.mark.parametrize("believes", [True, False])
def test_self_imitation_raises_the_replayed_action_to_what_followed_it(random_backbone: Path, believes: bool) -> None:
    algorithm = make(random_backbone, PaRl(**{**vars(SETTINGS), "self_imitation": believes}))
    batch = bandit(algorithm, 16, seed=0)
    batch.returns = np.where(np.arange(16) < 8, 1.0, 0.0).astype(np.float32)
    rows = LearnerBatch.of(batch, algorithm.policy, algorithm.learner.device)
    logits = algorithm.policy.logits(rows.grounded)
    tokens, weights, _ = algorithm.weigh_candidates(logits, rows)
    assert torch.equal(tokens[:, -1], rows.tokens)
    replayed = weights[:, -1]
    assert bool((replayed[:8] > 0.99).all()) == believes  # an untrained critic's values lie close together, below 1
    assert (replayed[8:] < 0.9).all()


SCRIPT = """
import sys
from pathlib import Path
from safetensors.torch import save_file
from tests.algorithms.test_pa_rl import bandit, make

algorithm = make(Path(sys.argv[1]))
learner = algorithm.learner
assert learner.processes == int(sys.argv[3]), learner.processes
share = 64 // learner.processes
for step in range(3):
    joint = bandit(algorithm, 64, seed=step)
    joint.demo[::4] = True
    algorithm.update(joint.rows(slice(learner.rank * share, (learner.rank + 1) * share)))
if learner.rank == 0:
    parts = {"policy": algorithm.policy.head, "critic": algorithm.critic, "target": algorithm.target}
    save_file({f"{k}.{n}": v.contiguous() for k, m in parts.items() for n, v in m.state_dict().items()}, sys.argv[2])
"""


@pytest.mark.processes
def test_two_processes_update_like_one_with_the_joint_batch(random_backbone: Path, tmp_path: Path) -> None:
    script = tmp_path / "update.py"
    script.write_text(SCRIPT)
    found = []
    for processes in (1, 2):
        out = tmp_path / f"{processes}.safetensors"
        in_processes(processes, str(script), str(random_backbone), str(out), str(processes))
        found.append(load_file(out))
    one, two = found
    for name, value in one.items():
        assert torch.allclose(value.float(), two[name].float(), atol=2e-5), name


@pytest.mark.parametrize("wrong", [{"gamma": 1.5}, {"candidates": 0}, {"value_range": (1.0, 0.0)}])
def test_settings_out_of_range_are_named(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PaRl(**wrong)
