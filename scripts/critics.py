"""Critics with other settings, fitted to what a run has experienced, and how well they rank its policy's decisions.

Usage: .venv/bin/python scripts/critics.py RUN [SETTINGS ...] [--states 40] [--decisions 8] [--rollouts 16]
[--updates 5000]

SETTINGS are those of the run's algorithm that one more critic has otherwise, such as critics=10 or
critic=both,critic_waves=2; the first critic has the run's own. Decisions are rolled out once, as by `vla-rl bench
critic`, and all critics learn from the same batches, with learning rates that fall as in a run. Each is judged in
several ways: `q` chooses by the least of its members and `mean` by their mean; `model`, where there is one; and `ahead`
is what a perfect model would make of it: the reward, and the critic's value of the policy's decisions in the state that
the decision truly leads to.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from vla_rl import build, config
from vla_rl.algorithms.critic import told_by
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.bench.critic import Judge, Judged, Tried, summary, try_out
from vla_rl.config import RunConfig
from vla_rl.envs import batched, earned
from vla_rl.envs.history import History
from vla_rl.envs.snapshots import restore_to
from vla_rl.models.features import Features
from vla_rl.models.policy import Policy
from vla_rl.registry import ConfigError, nearest
from vla_rl.resume import restore
from vla_rl.specs import VALIDATION_SEEDS
from vla_rl.train_state import TrainState, make

SAMPLES = 16
"""Decisions of the policy that a state's value is the mean of."""
FREE = ("one_step", "to_end", "value_range")
"""Of `Needs`, what critics that learn from the same batches may differ in."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument(
        "run", type=Path, help="a folder of `vla-rl train`, whose last checkpoint has its experience"
    )
    arguments.add_argument("settings", nargs="*", metavar="SETTINGS", help="such as critic=both,critic_waves=2")
    for name, count in (("states", 40), ("decisions", 8), ("rollouts", 16), ("updates", 5000)):
        arguments.add_argument(f"--{name}", type=int, default=count)
    options = arguments.parse_args()
    folder = options.run
    run = config.load(["resume=true", f"run_dir={folder}", "train.workers=0", "eval.workers=0"], command="train")
    algorithms = {given or "the run's": others(run.algorithm, given) for given in ("", *options.settings)}
    with closing(make(run, folder)) as state:
        restore(folder, state)
        tried = try_out(run, state.policy, build.discount(run), options.states, options.decisions, options.rollouts)
        judges = fitted(state, algorithms, options.updates, tried)
    judged = Judged(tried.returns, {name: tried.values(judge) for name, judge in judges.items()}, tried.length)
    print(table(summary(judged)))


def others(settings: Any, given: str) -> Any:
    """An algorithm's settings, less those that `given` has otherwise.

    Raises:
        ConfigError: no such setting; or one by which batches would hold something else.
    """
    pairs = [pair.partition("=") for pair in given.split(",") if pair]
    names = [field.name for field in dataclasses.fields(settings)]
    for name, _, _ in pairs:
        if name not in names:
            raise ConfigError(f"{name}: no setting of {type(settings).__name__}; {nearest(name, names)}")
    changed = dataclasses.replace(settings, **{name: yaml.safe_load(value) for name, _, value in pairs})
    own, needed = vars(settings.needs), vars(changed.needs)
    wrong = [key for key in own if key not in FREE and own[key] != needed[key]]
    if wrong or (settings.truncation == "bootstrap" and settings.mc_weight != changed.mc_weight):
        raise ConfigError(
            f"{given}: changes what batches hold ({', '.join(wrong or ['to_end'])}), which all critics share"
        )
    return changed


def fitted(state: TrainState, settings: dict[str, Any], updates: int, tried: Tried) -> dict[str, Judge]:
    """The judges of fresh critics after so many updates, by name."""
    algorithms = dict[str, Any]()
    for name, each in settings.items():
        torch.manual_seed(state.run.seed)
        algorithms[name] = each.build(policy=state.policy, learner=state.learner)
    widest = max(settings.values(), key=lambda each: each.needs.one_step)  # batches hold what the others need, too
    state.run = state.run.model_copy(update={"algorithm": widest})
    for number in range(updates):
        rows = LearnerBatch.of(state.batch(), state.policy, state.learner.device, None, True)
        for algorithm in algorithms.values():
            algorithm.anneal((number + 1) / updates)
            algorithm.update_critic(rows)
            algorithm.update_target()
            algorithm.updates += 1
    ahead = led_to(state.run, state.policy, tried)
    return {
        f"{name}: {way}": judge
        for name, algorithm in algorithms.items()
        for way, judge in judges_of(algorithm, state.policy, tried, ahead).items()
    }


@dataclasses.dataclass(frozen=True)
class Ahead:
    """Where a decision leads: the frozen features there, the reward on the way, and whether the episode ends."""

    seen: Features
    reward: float
    ends: bool


def led_to(run: RunConfig, policy: Policy, tried: Tried) -> list[list[Ahead]]:
    """Where each of the decisions of each state leads."""
    (factory,) = build.env_factories(run, build.env_spec(run)).values()
    found = []
    with closing(factory()) as env:
        env.reset(seed=VALIDATION_SEEDS[0])  # Gymnasium's wrappers insist on it
        for met, chosen in zip(tried.met, tried.chosen, strict=True):
            row = []
            for decision in chosen:
                restore_to(env, met.snapshot)
                observation, reward, terminated, _, info = env.step(decision)
                history = History(1)
                history.remember(met.noted)
                with torch.no_grad():
                    seen = policy.ground(history.push(batched(observation), np.array([False])))
                row.append(Ahead(seen, earned(reward, info), terminated))
            found.append(row)
    return found


def judges_of(algorithm: Any, policy: Policy, tried: Tried, ahead: Sequence[Sequence[Ahead]]) -> dict[str, Judge]:
    """The ways in which an algorithm's critic can judge, by name."""
    critic, gamma = algorithm.critic, algorithm.settings.gamma
    noise = torch.rand(1, SAMPLES, len(policy.slots), generator=torch.Generator().manual_seed(0)).clamp(1e-6, 1 - 1e-6)

    @torch.no_grad()
    def mean(grounded: Features, tokens_BNK: torch.Tensor) -> torch.Tensor:
        return critic.value(told_by(critic, policy, grounded, tokens_BNK)).mean(0)

    def value(seen: Features) -> float:
        return float(mean(seen, policy.sample(seen, SAMPLES, noise)).mean())

    def by_what_follows(state: int) -> np.ndarray:
        return np.array([each.reward + (0.0 if each.ends else gamma * value(each.seen)) for each in ahead[state]])

    found = {"q": tried.asking(algorithm.q), "mean": tried.asking(mean)}
    if getattr(algorithm, "model", None) is not None:
        found["model"] = tried.asking(algorithm.model.scorer)
    return found | {"ahead": by_what_follows}


def table(found: dict[str, Any]) -> str:
    """A line of Markdown for each judge."""
    rows = [
        f"oracle's gain {found['oracle']['gain']:+.3f} +- {found['oracle']['gain_se']:.3f}; a perfect judge's rank "
        f"correlation {found['cap']:.2f}\n",
        "| critic: judge | rank correlation | gain | correlation over states |",
        "|---|---|---|---|",
    ]
    for name, numbers in found.items():
        if isinstance(numbers, dict) and "states" in numbers:  # else it is the oracle's, or of no judge
            told = " | ".join(f"{numbers[key]:+.3f} +- {numbers[key + '_se']:.3f}" for key in ("spearman", "gain"))
            rows.append(f"| {name} | {told} | {numbers['states']:.2f} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
