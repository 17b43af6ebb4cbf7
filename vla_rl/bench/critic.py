"""How well a critic knows what decisions are worth: held against rollouts from snapshots of the environment.

At states that the policy meets, a few of its decisions are each carried out several times from the same snapshot, and
the policy acts on; what that returned on average is the truth. The k-th rollouts of all decisions of a state share
their random numbers, so that decisions differ by what they lead to and not by luck.

Shapes: S states, A decisions a state (NaN where the policy has fewer), R rollouts.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch

from vla_rl import build, config
from vla_rl.algorithms.algorithm import Scorer
from vla_rl.config import RunConfig
from vla_rl.envs.snapshots import restore_to
from vla_rl.models.features import Features
from vla_rl.models.policy import Policy
from vla_rl.registry import ConfigError
from vla_rl.rollout.actor import saved_algorithm
from vla_rl.rollout.branches import Met, can_go_back, every, meet, roll_out
from vla_rl.runtime.checkpoint import locate
from vla_rl.specs import CONTRIBUTION, VALIDATION_SEEDS

LANES = 16
"""Rollouts that run together."""
DRAWS = 8
"""So many samples a decision wanted are drawn of the policy, to find different ones."""
THIRDS = ("early", "middle", "late")
"""Of the states, by decisions to the episode's end."""
DIGITS = 9
"""Returns and values that are alike to so many digits are equal."""


Judge = Callable[[int], np.ndarray]
"""The number of a state -> what its decisions are worth, float [A]."""


@dataclass(frozen=True)
class Judged:
    """returns float64 [S, A, R]: what followed. values: by what judged, float64 [S, A]. length float64 [S]: decisions
    to the episode's end, on average. contributed float64 [S, A]: what each decision truly contributed, where the
    environment tells that (`info["contribution"]`)."""

    returns: np.ndarray
    values: dict[str, np.ndarray]
    length: np.ndarray
    contributed: np.ndarray | None = None


def bench_critic(
    run_folder: str,
    overrides: Sequence[str] = (),
    states: int = 32,
    decisions: int = 8,
    rollouts: int = 16,
    as_json: bool = False,
) -> None:
    """Print how well the critics of a run's last checkpoint rank decisions; see `summary`.

    Raises:
        ConfigError: an environment without snapshots; a policy that sees several frames; an algorithm that judges none.
    """
    run = config.load([f"eval.checkpoint={run_folder}", *overrides], command="eval").only("bench critic")
    found = summary(judge(run, states, decisions, rollouts))
    if as_json:
        print(json.dumps(found))
        return
    print(table(found))


def judge(run: RunConfig, states: int, decisions: int, rollouts: int) -> Judged:
    """Roll out decisions of the run's checkpoint at states of validation episodes, and ask its critics."""
    assert run.eval.checkpoint is not None
    policy = Policy.from_pretrained(locate(run.eval.checkpoint).policy, plugins=run.plugins)
    judges, gamma = judges_of(run, policy)
    tried = try_out(run, policy, gamma, states, decisions, rollouts)
    values = {name: tried.values(tried.asking(scorer)) for name, scorer in judges.items()}
    return Judged(tried.returns, values, tried.length, tried.contributed)


@dataclass(frozen=True)
class Tried:
    """States, what critics read of them, and their `chosen` decisions, int64 [A, K] each, that were rolled out; all
    else as in `Judged`."""

    met: list[Met]
    grounded: list[Features]
    chosen: list[np.ndarray]
    returns: np.ndarray
    length: np.ndarray
    contributed: np.ndarray | None

    def asking(self, scorer: Scorer) -> Judge:
        """One who asks a scorer."""
        return lambda state: scorer(self.grounded[state], torch.from_numpy(self.chosen[state])[None])[0].cpu().numpy()

    def values(self, judge: Judge) -> np.ndarray:
        """What a judge makes of all decisions, float64 [S, A]."""
        found = np.full(self.returns.shape[:2], np.nan)
        for state, tokens in enumerate(self.chosen):
            found[state, : len(tokens)] = judge(state)
        return found


def try_out(run: RunConfig, policy: Policy, gamma: float, states: int, decisions: int, rollouts: int) -> Tried:
    """Roll out a policy's decisions at states of its validation episodes.

    Raises:
        ConfigError: an environment without snapshots; a policy that sees several frames.
    """
    if run.replay.stack > 1:
        raise ConfigError(f"replay.stack: {run.replay.stack}; bench critic knows policies of one frame only")
    run = build.with_tokens_of(run, policy)
    spec = build.env_spec(run)
    policy.check_fits(spec.tokens, spec.observation.images, spec.observation.state)
    (make,) = build.env_factories(run, spec).values()
    with ExitStack() as open_envs:
        envs = [open_envs.enter_context(closing(make())) for _ in range(min(LANES, states * decisions * rollouts))]
        for env in envs:
            env.reset(seed=VALIDATION_SEEDS[0])  # Gymnasium's wrappers insist on it
        if not can_go_back(envs[0]):
            raise ConfigError(f"env.id: {run.env.id} has no `snapshot` and `restore`, which bench critic goes back by")
        met = [meet(envs[0], policy, seed) for seed in VALIDATION_SEEDS[:states]]
        chosen = [_choices(policy, each.seen, decisions, number) for number, each in enumerate(met)]
        returns = np.full((states, decisions, rollouts), np.nan)
        length = np.zeros(returns.shape)
        for each in roll_out(envs, policy, met, chosen, every(chosen, rollouts), gamma):
            returns[each.job], length[each.job] = each.paid, each.steps
        contributed = contributions(envs[0], met, chosen, decisions)
    with np.errstate(invalid="ignore"):
        mean_length = np.nanmean(np.where(np.isnan(returns), np.nan, length), axis=(1, 2))
    grounded = [policy.ground(each.seen) for each in met]
    return Tried(met, grounded, chosen, returns, mean_length, contributed)


def contributions(env: gymnasium.Env, met: Sequence[Met], chosen: Sequence[np.ndarray], most: int) -> np.ndarray | None:
    """What each of the `chosen` decisions, at most so many, truly contributed, float64 [S, A]; None where the
    environment does not tell."""
    found = np.full((len(met), most), np.nan)
    for state, (each, tokens) in enumerate(zip(met, chosen, strict=True)):
        for number, decision in enumerate(tokens):
            restore_to(env, each.snapshot)
            info = env.step(decision)[-1]
            if CONTRIBUTION not in info:
                return None
            found[state, number] = info[CONTRIBUTION]
    return found


def judges_of(run: RunConfig, policy: Policy) -> tuple[dict[str, Scorer], float]:
    """What judges decisions in the run's checkpoint, by name: the critic, and where there is one, the model; and the
    discount of what they tell."""
    assert run.eval.checkpoint is not None
    folder = locate(run.eval.checkpoint).policy
    trained = saved_algorithm(folder, run.plugins)
    if trained is None:
        raise ConfigError(f"{folder.parent} holds a policy that nothing judged; name a run of `vla-rl train`")
    settings: Any
    settings, state = trained
    ways = ["direct", "model", "both"] if getattr(settings, "has_model", False) else [""]
    named = {way: dataclasses.replace(settings, critic=way) if way else settings for way in ways}
    found = {way or "critic": each.scorer(policy, state) for way, each in named.items()}
    if None in found.values():
        raise ConfigError(f"algorithm: {type(settings).__name__} judges no decisions")
    return found, settings.needs.gamma


def _choices(policy: Policy, seen: dict[str, Any], most: int, seed: int) -> np.ndarray:
    """At most so many different decisions of the policy, int64 [A, K]."""
    noise = torch.from_numpy(np.random.default_rng(seed).random((1, DRAWS * most, len(policy.slots)))).float()
    with torch.no_grad():
        tokens = policy.sample(policy.encode(seen), DRAWS * most, noise.clamp(1e-6, 1 - 1e-6))[0].numpy()
    _, first = np.unique(tokens, axis=0, return_index=True)
    return tokens[np.sort(first)][:most]


def summary(judged: Judged) -> dict[str, Any]:
    """What the numbers say, with standard errors over states (`_se`), of all states and by how far they are from the
    episode's end: `_early`, `_middle` and `_late` are thirds of them.

    `steps`: decisions to the episode's end. Of each judge: `spearman`, rank correlation with the truth within a state,
    over the states whose decisions differ in return; `gain`: what the decision that it likes best returns, beyond the
    mean decision; `states`: correlation over states. `oracle`: the gain of one who chooses by one half of the rollouts
    and is paid by the other. `cap`: the rank correlation that a perfect judge would have with a truth of so few
    rollouts. `contribution`, where the environment tells what decisions truly contribute: the correlation of that with
    each judge's advantages within states, and with those of the rollouts, which are counterfactual resets (`resets`,
    arXiv 2605.25507).
    """
    truth = judged.returns.mean(2)
    halves = judged.returns[:, :, ::2].mean(2), judged.returns[:, :, 1::2].mean(2)
    mean = np.nanmean(truth, 1)
    thirds = np.array_split(np.argsort(-judged.length), len(THIRDS))
    parts = {"": np.arange(len(truth))} | {f"_{when}": third for when, third in zip(THIRDS, thirds, strict=True)}

    def told(name: str, values: np.ndarray) -> dict[str, float]:
        """Mean and error of the states' values, of all and of each third."""
        return {
            f"{name}{what}{part}": of(values[chosen])
            for part, chosen in parts.items()
            for what, of in (("", _mean), ("_se", _error))
        }

    found: dict[str, Any] = {"states": float(len(truth)), "mean_return": float(mean.mean())}
    found["steps"] = {f"steps{part}": _mean(judged.length[chosen]) for part, chosen in parts.items()}
    again = np.array([_spearman(a, b) for a, b in zip(*halves, strict=True)])
    half = _mean(again)
    # Spearman and Brown: of twice as many rollouts; its root is the correlation with what no noise disturbs.
    found["cap"] = float(np.sqrt(max(2 * half / (1 + half), 0.0)))
    oracle = np.mean([_paid(a, b) - np.nanmean(b, 1) for a, b in (halves, halves[::-1])], axis=0)
    found["oracle"] = told("gain", oracle)
    for name, values in judged.values.items():
        ranked = np.array([_spearman(a, b) for a, b in zip(values, truth, strict=True)])
        over_states = {"states": correlation(np.nanmean(values, 1), mean)}
        found[name] = told("spearman", ranked) | told("gain", _paid(values, truth) - mean) | over_states
    if judged.contributed is not None:
        found["contribution"] = {
            name: _advantages_agree(values, judged.contributed)
            for name, values in {"resets": truth, **judged.values}.items()
        }
    return found


def _advantages_agree(values: np.ndarray, truth: np.ndarray) -> float:
    """The correlation over all decisions [S, A] of how much better they are than the mean one of their state."""
    known = ~np.isnan(values) & ~np.isnan(truth)
    one, other = (
        np.where(known, each - np.nanmean(np.where(known, each, np.nan), 1, keepdims=True), np.nan)
        for each in (values, truth)
    )
    return correlation(one[known], other[known])


def table(found: Mapping[str, Any]) -> str:
    """A `summary` for people: a line a number, of all states and of each third."""
    parts = ["", *(f"_{when}" for when in THIRDS)]
    lines = [f"{name:20} {value:.3f}" for name, value in found.items() if not isinstance(value, dict)]
    lines.append(f"{'':20}" + "".join(f"{part.removeprefix('_') or 'all':>16}" for part in parts))
    for name, numbers in found.items():
        for what in ("steps", "spearman", "gain") if isinstance(numbers, dict) else ():
            if what in numbers:
                cells = (_cell(numbers[what + part], numbers.get(f"{what}_se{part}")) for part in parts)
                label = name if name == what else f"{name} {what}"
                lines.append(f"{label:20}" + "".join(f"{cell:>16}" for cell in cells))
    lines += [f"{f'{name} contribution':20}{value:>+16.3f}" for name, value in found.get("contribution", {}).items()]
    return "\n".join(lines)


def _cell(value: float, error: float | None) -> str:
    return f"{value:.1f}" if error is None else f"{value:+.3f} +- {error:.3f}"


def _paid(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """What the decision of the highest value returned, [S]."""
    best = np.where(np.isnan(values), -np.inf, values).argmax(1)
    return truth[np.arange(len(truth)), best]


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    """The rank correlation of two rows, where both are known; NaN where either has no spread."""
    known = ~np.isnan(a) & ~np.isnan(b)
    return correlation(_ranks(np.round(a[known], DIGITS)), _ranks(np.round(b[known], DIGITS)))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's; NaN where either has no spread."""
    spread = len(a) > 1 and np.ptp(a) > 0 and np.ptp(b) > 0
    return float(np.corrcoef(a, b)[0, 1]) if spread else float("nan")


def _mean(values: np.ndarray) -> float:
    """The mean of those that are known; NaN where none is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0 on; equal ones share their mean."""
    _, where, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count + 1) / 2)[where]


def _error(values: np.ndarray) -> float:
    """The standard error of the mean of those that are known; NaN of fewer than two."""
    values = values[~np.isnan(values)]
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
