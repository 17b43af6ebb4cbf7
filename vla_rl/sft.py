"""The supervised start: imitate the labels of demonstrations."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vla_rl import Verb, build, config
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.algorithms.rates import ActorRates
from vla_rl.config import RunConfig, SftConfig
from vla_rl.data.normalise import normalise
from vla_rl.models.policy import Policy
from vla_rl.registry import ConfigError
from vla_rl.replay import ReplayBuffer
from vla_rl.runtime import checkpoint
from vla_rl.runtime.learner import Learner
from vla_rl.runtime.logger import Log
from vla_rl.runtime.run_folder import starting
from vla_rl.runtime.signals import Stop


def sft(run: RunConfig | str, *overrides: str) -> Path:
    """Train a fresh policy on the demonstrations of `run.demos.path`; returns its checkpoint's folder.

    run: a config, or the first of the overrides, as on the command line.

    With `sft.steps` 0 it is the policy as it starts; with `demos.episodes` 0 too it has seen no demonstration at all.

    After SIGTERM or Ctrl-C it is the policy as it is by then.

    Raises:
        ConfigError: the run wants steps, but no demonstrations.
        SystemExit: code `INTERRUPTED` after SIGTERM or Ctrl-C, with the checkpoint written.
    """
    run = config.given(run, overrides, "sft")
    if run.demos.episodes == 0 and run.sft.steps > 0:
        raise ConfigError(
            "demos.episodes: 0, so that there is nothing to imitate; train from reward alone, record some, or set "
            "sft.steps=0 too for the policy as it starts"
        )
    run = build.with_fitted_tokens(run)
    checkpoint.seed_all(run.seed)
    spec = build.env_spec(run)
    learner = build.learner(run, run.run_dir)
    shown = build.demonstrations(run, spec)
    policy = learner.prepare(build.fresh_policy(run, spec))
    with starting(run) as folder:
        demos = build.demo_replay(run, spec, policy, shown, cached=policy.frozen_trunk)
        normalise(policy, demos)
        learner.track(0, build.settings(run))
    if learner.rank == 0:
        run.save(folder)
        print(f"run: {folder}")
    with Stop() as stop, stop.held():
        with Log(folder, learner.accelerator, run.sft.steps, "supervised start", learner.rank == 0) as log:
            done = imitate(policy, demos, learner, run, log, stop)
        weights = learner.weights(policy)
        last = checkpoint.save(folder, done, {"pretrained_model": lambda part: policy.save_pretrained(part, weights)})
        learner.close()
    if done < run.sft.steps:
        stop.end(f"at step {done} of {run.sft.steps} of the supervised start; {last} is the policy as it is by then")
    if learner.rank == 0:
        print(f"checkpoint: {last}; `vla-rl train train.checkpoint={folder}` goes on from it")
    return last


def imitate(policy: Policy, demos: ReplayBuffer, learner: Learner, run: RunConfig, log: Log, stop: Stop) -> int:
    """`sft.steps` steps of cross-entropy on the demonstrations' labels, with a cosine schedule and with dropout.

    Each process draws batches of its own, and their gradients are averaged. Returns how many steps there were until it
    was told to stop.
    """
    settings, rng = run.sft, checkpoint.seed_all(run.seed, learner.rank)
    rates = ActorRates.of(policy, settings.lr, settings.backbone_lr, settings.backbone_warmup)
    optimizer = learner.optimizer(rates.groups(policy), settings.lr, settings.weight_decay, of_policy=True)
    policy.train()
    done = 0
    log.progress(done, "")
    while done < settings.steps and not learner.total(stop.asked)[0]:
        rates.set(optimizer, 0.5 * (1 + math.cos(math.pi * done / settings.steps)), done)
        batch = demos.sample(settings.batch_size, rng, images=not policy.frozen_trunk, following=False)
        make = partial(LearnerBatch.of, batch, policy, learner.device, following=False)
        rows = learner.in_memory(len(batch), make)
        learner.hold(batch)
        learn = partial(imitation_step, policy, rows, learner, optimizer, settings)
        log.update(learner.in_memory(len(rows), learn))
        done += 1
        if done % 50 == 0 or done == settings.steps:
            line = log.write(done)
            log.progress(done, f"loss {line['sft/loss']:.3f}")
    policy.eval()
    return done


def imitation_step(
    policy: Policy, rows: LearnerBatch, learner: Learner, optimizer: Any, settings: SftConfig, clip: float = 1.0
) -> dict[str, torch.Tensor]:
    """One step on the cross-entropy to the labels, spread over neighbours, from places with noise."""
    with learner.autocast():
        features = rows.grounded if policy.frozen_trunk else policy.encode(rows.observation)
        if settings.feature_noise > 0:
            features = features.jittered(settings.feature_noise)
        loss = policy.imitation_loss(features, rows.labels, settings.label_smoothing).float().mean()
    norm = learner.step(loss, optimizer, clip)
    return {"sft/loss": loss.detach(), "sft/grad_norm": norm}


Verb.make(__name__)
