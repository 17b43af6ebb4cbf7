"""The settings of replay, policy and algorithm together: a few updates of every pair of values."""

import itertools
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.fakes import LINE
from tests.pairwise import Row, every_pair
from vla_rl import build, config, train_state
from vla_rl.algorithms.algorithm import Decision
from vla_rl.data.record import record
from vla_rl.runtime.logger import Log
from vla_rl.specs import TASK

GOALS = "{type: state_goal, achieved: [0, 1], goal: [0, 1], within: 0.1}"
CHOICES = {
    "replay.hindsight": ["null", GOALS],
    "algorithm.mc_weight": ["1.0", "0.5", "0.0"],
    "algorithm.truncation": ["bootstrap", "fail", "drop"],
    "policy.train": ["head", "lora", "all"],
    "replay.cache": ["never", "always"],
    "algorithm.shift": ["0", "2"],
    "replay.success_share": ["0.0", "0.25"],
    "replay.prioritised": ["false", "true"],
    "replay.n_step": ["1", "3"],
    "replay.stack": ["1", "2"],
    "replay.ram_bytes": ["null", "3000KB"],
    "replay.prefetch": ["0", "2"],
    "demos.episodes": ["2", "0"],
    "algorithm.demo_share": ["0.25", "0.0"],
    "algorithm.kl_weight": ["0.0", "0.1"],
    "algorithm.backup": ["max", "mean"],
    "algorithm.candidates": ["4", "1"],
    "algorithm.uniform_candidates": ["0", "2"],
    "algorithm.self_imitation": ["true", "false"],
    "algorithm.critic": ["direct", "model", "both"],
    "algorithm.spread": ["batch", "state"],
    "algorithm.greedy_share": ["0.0", "0.5"],
    "algorithm.critic_share": ["0.0", "0.25"],
    "algorithm.epsilon": ["0.0", "0.3"],
    "algorithm.critics": ["2", "1"],
    "policy.views": ["apart", "together"],
    "policy.remembers": ["false", "true", "turns"],
    "train.groups": ["1", "2"],
}
BRIEF = [
    f"env.id={LINE}",
    "env.sensors=null",
    "env.actions=[x]",
    "plugins=[tests.fakes]",
    "action_space={type: binned, bins: 5}",
    "policy.precision=float32",
    "policy.compile=never",
    "policy.head.width=16",
    "replay.capacity=400",
    "algorithm.warmup_updates=0",
    "algorithm.critic_updates=1",
    "algorithm.batch_size=8",
    "algorithm.actor_batch_size=4",
    "train.num_envs=3",
    "train.workers=0",
]


def allowed(row: Row) -> bool:
    """What the config refuses by name is left out: see the tests of build and of the feature cache."""
    hindsight = row.get("replay.hindsight", "null") != "null"
    if hindsight and (row.get("algorithm.mc_weight") == "1.0" or row.get("replay.n_step") == "3"):
        return False
    if row.get("algorithm.shift") == "2" and row.get("policy.remembers") in ("true", "turns"):
        return False
    return (row.get("replay.cache"), row.get("algorithm.shift")) != ("always", "2")


ROWS = every_pair(CHOICES, allowed)


def test_every_pair_is_in_a_row() -> None:
    """Held against a list that is made otherwise."""
    together = {frozenset(pair) for row in ROWS for pair in itertools.combinations(row.items(), 2)}
    for a, b in itertools.combinations(CHOICES, 2):
        for x, y in itertools.product(CHOICES[a], CHOICES[b]):
            assert not allowed({a: x, b: y}) or frozenset([(a, x), (b, y)]) in together, (a, x, b, y)
    assert len(ROWS) < 30


@pytest.fixture(scope="module")
def demonstrations(random_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("line") / "demos"
    record(config.load([*BRIEF, "demos.episodes=2", f"demos.path={folder}"], command="demos"))
    return folder


def wait(state: train_state.TrainState, observation: dict[str, Any]) -> Decision:
    """Nothing, at no cost."""
    rows = len(observation[TASK])
    cached = state.policy.cached_features()
    features = {name: np.zeros((rows, *shape), dtype) for name, (shape, dtype) in cached.items()}
    noted = state.policy.remembered_shape
    return Decision(
        np.full((rows, 1), 2), features, remembered=None if noted is None else np.zeros((rows, *noted), np.float32)
    )


@pytest.mark.parametrize("row", ROWS, ids=[str(i) for i in range(len(ROWS))])
def test_settings_learn_together(row: Row, quick: list[str], demonstrations: Path, tmp_path: Path) -> None:
    chosen = [f"{name}={value}" for name, value in row.items()]
    given = [*quick, *BRIEF, f"demos.path={demonstrations}", f"run_dir={tmp_path}/run"]
    run = config.load([*given, *chosen], command="train")
    if run.algorithm.kl_weight:
        build.fresh_policy(run, build.env_spec(run)).save_pretrained(tmp_path / "start" / "pretrained_model")
        run = config.load([*given, *chosen, f"train.checkpoint={tmp_path}/start"], command="train")
    state = train_state.make(run, tmp_path / "run")
    with Log(tmp_path, None, 1, "", show=False) as log:
        for turn in range(14 * run.train.groups):  # to the end of a first episode at least
            state.collector.step(state.explore if turn < run.train.groups else partial(wait, state), log)
        state.collector.settle(log)
    state.collector.close()
    learnt = 0
    for _ in range(2 if state.ready() else 0):
        metrics = state.learn(state.batch())
        learnt += 1
        assert all(torch.isfinite(value).all() for name, value in metrics.items() if not name.startswith("q/")), metrics
    parameters = [*state.policy.parameters(), *state.algorithm.critic.parameters()]
    assert all(torch.isfinite(parameter).all() for parameter in parameters)
    assert learnt or (row["algorithm.mc_weight"], row["algorithm.truncation"]) == ("1.0", "drop")
