"""How well a run credits its decisions: held against what each of them truly contributed.

The truth is `info["contribution"]` of an environment that knows it, as `sims.gui.chains` does: by how much a decision
changed the chance of success. `replay.signals=[{name: contribution}]` has a run's replay keep it; the rows are those
that its last checkpoint remembers. What snapshots tell of the same is in `bench.critic`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from vla_rl import build, config
from vla_rl.algorithms.algorithm import Scorer
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.bench.critic import correlation
from vla_rl.config import RunConfig
from vla_rl.models.policy import Policy
from vla_rl.registry import ConfigError
from vla_rl.replay import Batch, ReplayBuffer
from vla_rl.resume import REPLAY
from vla_rl.rollout.actor import saved_algorithm
from vla_rl.runtime.begun import STATE
from vla_rl.runtime.checkpoint import load_state, locate
from vla_rl.specs import CONTRIBUTION, CREDIT

ROWS, SAMPLES = 256, 8
"""Rows that are judged at a time, and the policy's decisions that each is held against."""


def credited(run_folder: str) -> dict[str, float]:
    """Correlations with the true contribution, over the decisions of all remembered episodes that have ended.

    `critic`: of Q(s, a) less its mean over the policy's own decisions; NaN of an algorithm without one. `credit`: of
    what `algorithm.credit` works out, an advantage or what rewards count for; where it works nothing out, it reaches
    the policy by the critic alone, and that is `critic` again. `known`: the share of decisions of which it says
    something.

    Raises:
        ConfigError: rows do not tell what their decisions contributed.
    """
    run = config.load([f"eval.checkpoint={run_folder}"], command="eval").only("credited")
    if CONTRIBUTION not in [signal.name for signal in build.signals(run)]:
        raise ConfigError(
            f"replay.signals: rows do not keep {CONTRIBUTION!r}, what a decision contributed; train with "
            f"replay.signals=[{{name: {CONTRIBUTION}}}] on an environment that tells it, such as gui_chain with "
            "env.kwargs.contributions=true"
        )
    assert run.eval.checkpoint is not None
    place = locate(run.eval.checkpoint)
    policy = Policy.from_pretrained(place.policy, plugins=run.plugins)
    trained = saved_algorithm(place.policy, run.plugins)
    if trained is None:
        raise ConfigError(f"{place.policy.parent} holds a policy without experience; name a run of `vla-rl train`")
    replay = _remembered(run, policy, place.policy.parent)
    ids = replay.sampleable_ids(finished_only=True)
    batches = [replay.transitions(ids[at : at + ROWS], following=False) for at in range(0, len(ids), ROWS)]
    truth = np.concatenate([batch.extra[CONTRIBUTION] for batch in batches])
    scorer = trained[0].scorer(policy, trained[1])
    advantages = [
        np.full(len(batch), np.nan) if scorer is None else _advantage(batch, policy, scorer) for batch in batches
    ]
    found = {"critic": correlation(np.concatenate(advantages), truth), "rows": float(len(ids))}
    credit = run.algorithm.needs.credit
    if credit is None:
        return found | {"credit": found["critic"], "known": 1.0}
    if CREDIT in (*credit.columns, *credit.acted):
        told = np.concatenate([batch.extra[CREDIT.name] for batch in batches])
        sure = told[:, 1] > 0
        return found | {"credit": correlation(told[sure, 0], truth[sure]), "known": float(sure.mean())}
    rewards = replay.chunks(ids, 1).reward[:, 0]
    return found | {"credit": correlation(rewards, truth), "known": float((rewards != 0).mean())}


def _remembered(run: RunConfig, policy: Policy, generation: Path) -> ReplayBuffer:
    """What the first process of a run remembered."""
    spec, lanes = build.env_spec(run), run.train.num_envs
    book = build.credit_book(run)
    replay = build.replay(run, spec, policy, run.replay.capacity, lanes, cached=False, book=book)
    replay.load(generation / STATE / REPLAY, state=load_state(generation / STATE)["replay"])
    return replay


@torch.no_grad()
def _advantage(batch: Batch, policy: Policy, scorer: Scorer) -> np.ndarray:
    """By how much the critic likes what was decided better than the policy's own decisions, float32 [B]."""
    rows = LearnerBatch.of(batch, policy, policy.device, following=False)
    noise = torch.from_numpy(np.random.default_rng(0).uniform(1e-6, 1 - 1e-6, (len(batch), SAMPLES, len(policy.slots))))
    own = policy.sample(policy.encode(rows.observation), SAMPLES, noise.float().to(policy.device))
    q = scorer(rows.grounded, torch.cat([own, rows.tokens.unsqueeze(1)], dim=1))
    return (q[:, -1] - q[:, :-1].mean(1)).cpu().numpy()
