"""Speed and memory in one process: every ratio against a bare loop over the same work, interleaved, medians."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from vla_rl import build, config
from vla_rl.algorithms import losses
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.algorithms.pa_rl import PaRlAlgorithm
from vla_rl.bench.envs import ROUNDS, env_share, race, seconds
from vla_rl.config import RunConfig
from vla_rl.envs import EnvSpec, batched, factory
from vla_rl.envs.vector import VectorEnvs
from vla_rl.replay import ReplayBuffer
from vla_rl.rollout.actor import Actor
from vla_rl.rollout.collector import Collector
from vla_rl.runtime.logger import Log


def smoke(as_json: bool = False) -> None:
    """Print the numbers of `measure` for the Push quick-start, as one JSON object or as a table."""
    found = measure(config.load(["experiment=push"], command="bench"))
    if as_json:
        print(json.dumps({name: round(value, 4) for name, value in found.items()}))
        return
    for name, value in found.items():
        print(f"{name:20} {value:10.3f}")


def measure(run: RunConfig) -> dict[str, float]:
    """Ratios and rates of one machine in one run.

    `env_share`: steps/s of the environment over those of a loop of `mj_step` and `mujoco.Renderer` on its own
    model. `learner_share`: updates/s over those of the same modules' forward and backward written out by hand on
    the same batch. `replay_overhead`: bytes of a replay row, without cached features, over those of its raw
    frames. `decisions_per_s_b1`, `_b8`: greedy decisions a second, from pixels, for batches of 1 and 8.
    """
    spec = build.env_spec(run)
    policy = build.fresh_policy(run, spec)
    algorithm = run.algorithm.build(policy=policy, learner=build.learner(run))
    replay = build.replay(run, spec, policy, capacity=1024, lanes=1)
    fill(run, spec, algorithm, replay, steps=512)
    plan = replay.plan()
    return {
        "env_share": env_share(run),
        "learner_share": learner_share(algorithm, replay),
        "replay_overhead": (plan["row_bytes"] - plan["feature_bytes"]) / plan["frame_bytes"],
        "decisions_per_s_b1": decisions_per_second(run, algorithm, 1),
        "decisions_per_s_b8": decisions_per_second(run, algorithm, 8),
    }


def fill(run: RunConfig, spec: EnvSpec, algorithm: PaRlAlgorithm, replay: ReplayBuffer, steps: int) -> None:
    """Play `steps` decisions of the untrained policy into replay."""
    collector = Collector(VectorEnvs(build.env_factory(run, spec), 1), replay, seed=0)
    with closing(collector), TemporaryDirectory() as folder:
        log = Log(Path(folder), None, steps, "", show=False)
        made = 0
        while made < steps:
            made += collector.step(algorithm.explore, log)


def learner_share(algorithm: PaRlAlgorithm, replay: ReplayBuffer, repeats: int = 16) -> float:
    """Updates/s of the algorithm, from a replay batch on, over those of the same work written out by hand."""
    rng = np.random.default_rng(0)
    batch = replay.sample(algorithm.settings.batch_size, rng, finished_only=True, images=False)
    algorithm.updates = algorithm.settings.warmup_updates
    by_hand = partial(
        update_by_hand, algorithm, LearnerBatch.of(batch, algorithm.policy, algorithm.learner.device), [0]
    )
    ours: Callable[[], Any] = partial(algorithm.update, batch)
    for warm_up in (by_hand, ours):
        seconds(warm_up, algorithm.settings.critic_updates)
    return race(ours, by_hand, repeats).share


def update_by_hand(algorithm: PaRlAlgorithm, rows: LearnerBatch, count: list[int]) -> None:
    """What one update computes, with nothing around it: no metrics, no reductions, no checks."""
    settings, policy, critic = algorithm.settings, algorithm.policy, algorithm.critic
    slots = policy.slots
    with torch.no_grad():
        target = rows.returns
        if settings.mc_weight < 1:
            assert rows.next_grounded is not None
            noise = algorithm.learner.uniform(len(rows), settings.backup_samples, len(slots))
            tokens = policy.sample(rows.next_grounded, settings.backup_samples, noise)
            following = rows.next_grounded
            q = critic.value(algorithm.target(algorithm.readout(following), tokens, following)).amin(0)
            value = losses.backup_value(q, settings.backup, settings.value_range)
            target = losses.td_target(rows.reward, rows.discount, value, rows.returns, settings.mc_weight)
    logits = critic(algorithm.readout(rows.grounded), rows.tokens.unsqueeze(1), rows.grounded).squeeze(2)
    loss = losses.categorical_loss(logits, losses.hl_gauss(target, critic.edges, settings.sigma), rows.weight)
    descend(loss, algorithm.critic_optimizer, settings.clip)
    with torch.no_grad():
        torch._foreach_lerp_(list(algorithm.target.parameters()), list(critic.parameters()), settings.target_ema)
    count[0] += 1
    if count[0] % settings.critic_updates:
        return
    few = rows.subsample(settings.actor_batch_size)
    choices = policy.logits(few.grounded)
    with torch.no_grad():
        noise = algorithm.learner.uniform(len(few), settings.candidates, len(slots))
        tokens = policy.sample(choices, settings.candidates, noise)
        tokens = torch.cat([tokens, few.tokens.unsqueeze(1)], 1)
        q = critic.value(critic(algorithm.readout(few.grounded), tokens, few.grounded)).amin(0)
        scale = (settings.temperature * q.std(1).mean()).clamp_min(settings.least_temperature)
        weights = losses.candidate_weights(q, scale)
    log_prob = policy.log_prob(choices, torch.cat([tokens, few.labels.unsqueeze(1)], 1))
    loss = losses.weighted_bc_loss(weights, log_prob[:, :-1]) - settings.bc_weight * log_prob[:, -1].mean()
    descend(loss, algorithm.actor_optimizer, settings.clip)


def descend(loss: torch.Tensor, optimizer: Any, clip: float) -> None:
    """Backward, clip, step."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], clip)
    optimizer.step()


def decisions_per_second(run: RunConfig, algorithm: PaRlAlgorithm, rows: int, repeats: int = 40) -> float:
    """Greedy decisions a second from pixels, in batches of `rows`; the median of the rounds."""
    env = factory(run)()
    observation, _ = env.reset(seed=0)
    env.close()
    one = batched(observation)
    batch = {key: value * rows if isinstance(value, list) else np.repeat(value, rows, 0) for key, value in one.items()}
    act = partial(Actor(algorithm.policy, algorithm.scorer), batch)
    act()
    return rows * repeats / float(np.median([seconds(act, repeats) for _ in range(ROUNDS)]))
