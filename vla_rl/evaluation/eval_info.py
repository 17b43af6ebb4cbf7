"""What an evaluation leaves behind: `eval_info.json` with LeRobot's keys, videos, and a table on the screen."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from vla_rl.evaluation.outcome import EvalResult, Outcome, mean_tallies, percent, wilson

INFO_FILE = "eval_info.json"
EVALUATION = "evaluation"
"""In a run's own folder, what holds the config of an evaluation that is written there."""


def write(
    results: EvalResult | Sequence[EvalResult], folder: Path, about: Mapping[str, Any] | None = None, fps: float = 10.0
) -> Path:
    """Write `eval_info.json`, and an mp4 of every filmed episode into `videos/`; returns the JSON's path.

    Videos that the disk does not take are left out, with a warning.
    `about`: what else the file should say of the evaluation, such as the checkpoint. One frame of a
    video is one decision.
    """
    results = [results] if isinstance(results, EvalResult) else results
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    videos = [_write_videos(result, folder, fps) for result in results]
    info = eval_info(results, videos) | {"about": dict(about or {})}
    path = folder / INFO_FILE
    draft = folder / f".{INFO_FILE}.part"
    draft.write_text(json.dumps(finite(info), indent=2, ensure_ascii=False) + "\n", "utf-8")
    draft.replace(path)
    return path


def eval_info(results: Sequence[EvalResult], videos: Sequence[Mapping[int, str]]) -> dict[str, Any]:
    """LeRobot's keys (`per_task`, `per_group`, `overall`), with `pc_success_ci95` and `n_invalid` beside them.

    A task is an environment; `videos` maps the seeds of each one's filmed episodes to paths.
    `per_episode` lists every episode, the invalid ones too. Percentages lie in [0, 100].
    """
    outcomes = [outcome for result in results for outcome in result.outcomes]
    paths = [path for films in videos for path in films.values()]
    seconds = sum(result.seconds for result in results)
    pairs = list(zip(results, videos, strict=True))
    rows = [_row(outcome, films.get(outcome.seed)) for result, films in pairs for outcome in result.outcomes]
    return {
        "per_task": [_task(number, result, list(films.values())) for number, (result, films) in enumerate(pairs)],
        "per_group": {result.env: _aggregate(result.outcomes, list(films.values())) for result, films in pairs},
        "per_episode": [{"episode_ix": index} | row for index, row in enumerate(rows)],
        "overall": _aggregate(outcomes, paths) | {"eval_s": seconds, "eval_ep_s": seconds / max(1, len(outcomes))},
    }


def print_table(results: Sequence[EvalResult]) -> None:
    """Success and its interval, a line a task."""
    table = Table(title="held-out seeds", title_justify="left")
    table.add_column("task", no_wrap=True)
    costly = any(outcome.cost for result in results for outcome in result.outcomes)
    told = list(dict.fromkeys(name for result in results for name in result.tallies))
    more = [*(["mean cost"] if costly else []), *(name.replace("_", " ") for name in told)]
    for name in ("episodes", "success", "95% interval", "mean length", *more):
        table.add_column(name, justify="right")
    for result in results:
        low, high = result.ci95
        numbers = _aggregate(result.outcomes, [])
        invalid = f" (+{result.n_invalid} invalid)" if result.n_invalid else ""
        table.add_row(
            result.env,
            f"{result.successes} of {len(result.valid)}{invalid}",
            f"{result.pc_success:.1f} %",
            f"{low:.1f} to {high:.1f}",
            f"{numbers['avg_length']:.1f}",
            *([f"{result.mean_cost:.2f}"] if costly else []),
            *(f"{result.tallies[name]:.2f}" if name in result.tallies else "" for name in told),
        )
    Console().print(table)


@contextmanager
def episode_bar(label: str, total: int) -> Iterator[Callable[[Outcome], None]]:
    """A progress bar of episodes with the success so far; yields what to call with each one that ended."""
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}"), *columns) as progress:
        bar = progress.add_task(label, total=total, rate="")
        ended: list[Outcome] = []

        def count(outcome: Outcome) -> None:
            ended.append(outcome)
            valid = [one for one in ended if not one.invalid]
            rate = percent(sum(one.success for one in valid), len(valid))
            progress.update(bar, advance=1, rate=f"success {rate:.0f} %")

        yield count


def video_path(folder: Path, result: EvalResult, outcome: Outcome) -> Path:
    """Where the video of a filmed episode lies in the evaluation's folder."""
    kind = "success" if outcome.success else "failure"
    return folder / "videos" / result.env.replace("/", "_").replace(" ", "_") / f"{kind}_seed_{outcome.seed}.mp4"


def _write_videos(result: EvalResult, folder: Path, fps: float) -> dict[int, str]:
    """The paths of the films, by seed."""
    filmed = {outcome.seed: outcome for outcome in result.outcomes if outcome.frames}
    if not filmed:
        return {}
    from vla_rl.media.video import write_video

    paths = {}
    for seed, outcome in filmed.items():
        path = video_path(folder, result, outcome)
        try:
            paths[seed] = str(write_video(path, outcome.frames or (), fps))
        except OSError as error:
            warnings.warn(f"{path}: the video is left out: {error}", stacklevel=3)
            path.unlink(missing_ok=True)
    return paths


def _aggregate(outcomes: Sequence[Outcome], videos: Sequence[str]) -> dict[str, Any]:
    valid = [outcome for outcome in outcomes if not outcome.invalid]
    successes = sum(outcome.success for outcome in valid)
    return {
        "avg_sum_reward": _mean([outcome.sum_reward for outcome in valid]),
        "avg_max_reward": _mean([outcome.max_reward for outcome in valid]),
        "pc_success": percent(successes, len(valid)),
        "pc_success_ci95": list(wilson(successes, len(valid))),
        "n_episodes": len(valid),
        "n_invalid": len(outcomes) - len(valid),
        "avg_length": _mean([outcome.length for outcome in valid]),
        "avg_cost": _mean([outcome.cost for outcome in valid]),
        "pc_costly": percent(sum(outcome.cost > 0 for outcome in valid), len(valid)),
        **{f"avg_{name}": value for name, value in mean_tallies(valid).items()},
        "video_paths": list(videos),
    }


def _task(number: int, result: EvalResult, videos: Sequence[str]) -> dict[str, Any]:
    metrics = {
        "sum_rewards": [outcome.sum_reward for outcome in result.valid],
        "max_rewards": [outcome.max_reward for outcome in result.valid],
        "successes": [outcome.success for outcome in result.valid],
        "video_paths": list(videos),
    }
    shares = {k: v for k, v in _aggregate(result.outcomes, videos).items() if k.startswith(("pc_", "n_"))}
    return {"task_group": result.env, "task_id": number, "metrics": metrics, **shares}


def _row(outcome: Outcome, video: str | None) -> dict[str, Any]:
    names = ("sum_reward", "max_reward", "cost", "success", "seed", "task", "length", "invalid")
    row = {name: getattr(outcome, name) for name in names} | ({} if outcome.stage is None else {"stage": outcome.stage})
    row |= {"error": outcome.error} if outcome.error else {}
    row |= outcome.tallies
    return row | {"video_path": video, "q": [round(q, 4) for q in outcome.q]} if video else row


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def finite(value: Any) -> Any:
    """`value` with null for every number that JSON cannot hold."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
