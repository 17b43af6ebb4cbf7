"""Run by tests in one process or several: some updates, each with this process's rows of a joint batch.

BACKBONE OUT: for each way to train a policy, with whole layers and with shared ones, the first process writes into
OUT/<train>_<sharding>.safetensors what the updates have made, and checks that it fits a run of any number of processes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from tests.algorithms.test_pa_rl import SETTINGS, bandit, make
from vla_rl.algorithms.configs import PaRl
from vla_rl.algorithms.pa_rl import PaRlAlgorithm
from vla_rl.replay import Batch

ROWS, UPDATES = 16, 2
WAYS = [(train, sharding) for train in ("head", "lora", "all") for sharding in (None, "fsdp")]


def joint_batch(algorithm: PaRlAlgorithm, seed: int) -> Batch:
    """Episodes of some rows were cut short, so that what follows counts: all of them the first process's."""
    batch = bandit(algorithm, ROWS, seed, images=True)
    batch.demo[::4] = True
    batch.followed = (np.arange(ROWS) % 2 == 0) & (np.arange(ROWS) < ROWS // 4)
    batch.discount = batch.rest = np.where(batch.followed, np.float32(0.5), np.float32(0))
    batch.next_observation = {key: batch.rows(batch.followed).observation[key] for key in batch.observation}
    return batch


def updated(backbone: Path, train: str, sharding: str | None) -> dict[str, torch.Tensor]:
    """What the updates have made: weights, the optimisers' moments, and the norms of the gradients."""
    settings = PaRl(**{**vars(SETTINGS), "mc_weight": 1.0, "backbone_warmup": 0, "clip": 0.1})
    algorithm = make(backbone, settings, train, sharding)
    learner = algorithm.learner
    share = ROWS // learner.processes
    found = {}
    for step in range(UPDATES):
        joint = joint_batch(algorithm, step)
        metrics = algorithm.update(joint.rows(slice(learner.rank * share, (learner.rank + 1) * share)))
        found |= {f"norm.{name}.{step}": metrics[name].clone() for name in ("critic/grad_norm", "actor/grad_norm")}
    state, weights = algorithm.state_dict(), learner.weights(algorithm.policy)
    for name in ("critic", "target"):
        found |= {f"{name}.{key}": value for key, value in state[name].items()}
    for name in ("critic_optimizer", "actor_optimizer"):
        for number, of_one in state[name]["state"].items():
            found |= {f"{name}.{number}.{key}": value for key, value in of_one.items()}
    algorithm.load_state_dict(learner.told(state))  # as from a file, which all processes read
    again, before = (each["actor_optimizer"]["state"] for each in (algorithm.state_dict(), state))
    assert learner.rank > 0 or all(torch.equal(again[i][key], before[i][key]) for i in again for key in again[i])
    return found | {f"policy.{key}": value for key, value in weights.items()}


def main(backbone: Path, out: Path) -> None:
    """Make all updates, one after the other."""
    for train, sharding in WAYS:
        found = updated(backbone, train, sharding)
        if torch.distributed.is_initialized() and torch.distributed.get_rank() > 0:
            continue
        own = {key: value.detach().clone().contiguous() for key, value in found.items()}
        save_file(own, out / f"{train}_{sharding}.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
