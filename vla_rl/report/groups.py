"""Runs whose settings are equal but for the seed, beside others: their curves, their success, their differences."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_rl.evaluation.critic_health import CriticHealth
from vla_rl.evaluation.outcome import Tally, wilson
from vla_rl.report.bootstrap import difference_interval, mean_interval
from vla_rl.report.charts import Curve, series
from vla_rl.report.runs import Tried

MOST_POINTS = 200
"""Of a curve: where runs tell more, it is drawn through as many."""
_IN_NAMES = 3
"""Settings that name a group, at most; the table has all."""
BY_RUNS, BY_EPISODES = "runs", "episodes"


@dataclass(frozen=True)
class Group:
    """Runs of equal settings. number: its place; name: the settings in which it differs from others, in short."""

    number: int
    name: str
    settings: Mapping[str, Any]
    runs: tuple[Tried, ...]

    @property
    def seeds(self) -> list[int | None]:
        """Of its runs."""
        return [run.seed for run in self.runs]

    def rates(self, task: str | None = None) -> list[float]:
        """Success of each run that was measured, in percent: in a task, or in all of them together."""
        found = (run.score if task is None else run.scores.get(task) for run in self.runs)
        return [score.rate for score in found if score is not None and score.episodes]

    def pooled(self, task: str | None = None) -> Tally:
        """The episodes of all runs together."""
        found = [run.score if task is None else run.scores.get(task) for run in self.runs]
        kept = [score for score in found if score is not None]
        return Tally(sum(score.won for score in kept), sum(score.episodes for score in kept))


@dataclass(frozen=True)
class Estimate:
    """A success, or a difference of two, in percent (points), with its 95% interval.

    by: what the interval is over: BY_RUNS, a bootstrap over the runs (seeds), or BY_EPISODES where a group has a single
    run, so that it says nothing of other seeds. runs: how many there are (of the smaller group).
    """

    value: float
    low: float
    high: float
    by: str
    runs: int


def grouped(runs: Sequence[Tried]) -> list[Group]:
    """The runs by their settings, in the order in which these first come."""
    found: dict[str, list[Tried]] = {}
    for run in runs:
        found.setdefault(_key(run.settings), []).append(run)
    settings = [each[0].settings for each in found.values()]
    differing = differences(settings)
    everywhere = [key for key in differing if all(key in each for each in settings)]
    names = [_name(each, everywhere) for each in settings]
    if len(set(names)) < len(names):  # what only some have must tell them apart
        names = [_name(each, differing) for each in settings]
    return [
        Group(number, names[number], settings[number], tuple(sorted(each, key=_by_seed)))
        for number, each in enumerate(found.values())
    ]


def _by_seed(run: Tried) -> tuple[int, str]:
    return (-1 if run.seed is None else run.seed, str(run.folder))


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def differences(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys whose values are not the same in all; what kind of thing is chosen comes first."""
    keys = dict.fromkeys(key for each in settings for key in each)
    differing = [key for key in keys if len({_key(each[key]) if key in each else "" for each in settings}) > 1]
    return sorted(differing, key=lambda key: (key.startswith("started from"), not key.endswith(("type", ".id")), key))


def _name(settings: Mapping[str, Any], differing: Sequence[str]) -> str:
    """What tells a group from the others, in short, such as `gamma=0.95`; keys in full where two end alike."""
    words = {key: key.removesuffix(".type").rpartition(".")[2] for key in differing}
    ends = Counter(words.values())
    short = {key: word if ends[word] == 1 else key for key, word in words.items()}
    told = [f"{short[key]}={_brief(settings.get(key, 'not there'))}" for key in differing[:_IN_NAMES]]
    more = f" and {len(differing) - _IN_NAMES} more" if len(differing) > _IN_NAMES else ""
    return ", ".join(told) + more if told else "all runs"


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 32 else f"{text[:29]}..."


def success(group: Group, task: str | None = None) -> Estimate | None:
    """What a group's runs come to on average; None where none was measured."""
    rates = group.rates(task)
    if not rates:
        return None
    if len(rates) == 1:
        pooled = group.pooled(task)
        return Estimate(rates[0], *wilson(pooled.won, pooled.episodes), BY_EPISODES, 1)
    found = mean_interval(np.array(rates))
    return Estimate(float(found.mean), float(found.low), float(found.high), BY_RUNS, len(rates))


def difference(first: Group, second: Group, task: str | None = None) -> Estimate | None:
    """How much better `second` does, in points; None where one was not measured."""
    ours, theirs = first.rates(task), second.rates(task)
    if not ours or not theirs:
        return None
    if min(len(ours), len(theirs)) > 1:
        found = difference_interval(np.array(ours), np.array(theirs))
        return Estimate(float(found.mean), float(found.low), float(found.high), BY_RUNS, min(len(ours), len(theirs)))
    before, after = first.pooled(task), second.pooled(task)
    beside = CriticHealth.between((after.won, after.episodes), (before.won, before.episodes), 0)
    value = float(np.mean(theirs) - np.mean(ours))
    return Estimate(value, *beside.interval, BY_EPISODES, 1)


def tasks_of(groups: Iterable[Group]) -> list[str]:
    """The tasks that were measured, where there are several."""
    names = list(dict.fromkeys(task for group in groups for run in group.runs for task in run.scores))
    return names if len(names) > 1 else []


def curve(group: Group, key: str, scale: float = 1.0) -> Curve | None:
    """The group's mean of a metric and its band, over the steps that all of its runs tell of; None without any.

    Between two lines of a run its values are joined by a straight line.
    """
    found = [series(run.metrics, key, scale) for run in group.runs]
    runs = [(np.array(steps), np.array(values)) for steps, values in found if steps]
    if not runs:
        return None
    begin, end = max(steps[0] for steps, _ in runs), min(steps[-1] for steps, _ in runs)
    grid = np.unique(np.concatenate([steps for steps, _ in runs]))
    grid = grid[(grid >= begin) & (grid <= end)]
    if not len(grid):  # the runs have no step in common
        return None
    grid = grid[np.unique(np.linspace(0, len(grid) - 1, min(len(grid), MOST_POINTS)).round().astype(int))]
    values = np.stack([np.interp(grid, steps, values) for steps, values in runs])
    band = mean_interval(values)
    return Curve(group.name, group.number, grid, band.mean, band.low, band.high, tuple(runs))


def summary(groups: Sequence[Group], metrics: Sequence[str] = ()) -> dict[str, Any]:
    """All of it as JSON's types: the groups with their runs, the curves of `metrics`, and every pair's difference."""
    return {
        "groups": [
            {
                "name": group.name,
                "settings": dict(group.settings),
                "runs": [
                    {
                        "folder": str(run.folder),
                        "seed": run.seed,
                        "step": run.step,
                        "measured_on": run.measured,
                        "pc_success": run.score.rate if run.score else None,
                        "n_episodes": run.score.episodes if run.score else 0,
                    }
                    for run in group.runs
                ],
                "success": _plain(success(group)),
                "curves": {key: _curve_plain(found) for key in metrics if (found := curve(group, key))},
            }
            for group in groups
        ],
        "differences": [
            {"from": first.name, "to": second.name, **(_plain(difference(first, second)) or {})}
            for i, first in enumerate(groups)
            for second in groups[i + 1 :]
        ],
        "settings_that_differ": differences([group.settings for group in groups]),
    }


def _plain(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    numbers = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return {name: None if math.isnan(x) else x for name, x in numbers.items()} | {
        "interval_over": estimate.by,
        "runs": estimate.runs,
    }


def _curve_plain(found: Curve) -> dict[str, list[float]]:
    names = ("steps", "mean", "low", "high")
    return {name: getattr(found, name).tolist() for name in names}
