"""Reports of evaluations: of one that just ran, or of several that lie on disk."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_rl.evaluate import EvalResult
from vla_rl.report import Film, Report, Score, films_of, read_metrics, write_report
from vla_rl.results import INFO_FILE

if TYPE_CHECKING:
    from vla_rl.config import RunConfig

METRICS_FILE = "metrics.jsonl"
REPORT_FILE = "report.html"


@dataclass(frozen=True)
class Candidate:
    """An evaluated policy: what to call it, the folder of its `vla-rl eval`, and a line on how it came to be."""

    name: str
    folder: Path
    note: str = ""


def compare(
    path: Path,
    title: str,
    candidates: Sequence[Candidate],
    summary: Mapping[str, Any] | None = None,
    metrics: Path | None = None,
    subtitle: str = "",
) -> Path:
    """Write one report on several policies, the one that matters last; its films are shown.

    Args:
        path: of the HTML file.
        title: of the page.
        candidates: whose `eval_info.json` and videos are read.
        summary: settings to list.
        metrics: the `metrics.jsonl` of the training run, for the learning curve.
        subtitle: a line under the title.

    Raises:
        ValueError: no candidates, or an `eval_info.json` that is missing or damaged; it is named.
    """
    if not candidates:
        raise ValueError("compare needs at least one evaluated policy, got none")
    infos = [_read_info(candidate.folder / INFO_FILE) for candidate in candidates]
    report = Report(
        title=title,
        subtitle=subtitle,
        scores=[_score(candidate, info) for candidate, info in zip(candidates, infos, strict=True)],
        summary=summary or {},
        films=_films(infos[-1], candidates[-1].folder),
        metrics=read_metrics(metrics) if metrics else (),
    )
    return write_report(path, report)


def write_evaluation(run: RunConfig, result: EvalResult, checkpoint: Path, acting: str) -> Path:
    """The report of `vla-rl eval`, in the run's folder, with the learning curve of the checkpoint's run."""
    assert run.run_dir is not None, "a config is made by load()"
    trained, step = _origin(checkpoint)
    name = run.env.name.replace("_", " ").capitalize()
    report = Report(
        title=f"{name}, checkpoint {step}",
        subtitle=f"{run.env.id}: {len(result.outcomes)} episodes, {acting}",
        scores=[Score.of(result, f"{run.policy.name} at step {step}", acting)],
        summary=settings(run) | {"checkpoint": checkpoint, "seconds": f"{result.seconds:.0f}"},
        films=films_of(result),
        metrics=read_metrics(trained / METRICS_FILE),
    )
    return write_report(run.run_dir / REPORT_FILE, report)


def settings(run: RunConfig) -> dict[str, str]:
    """What a reader wants to know of a run, in words."""
    sensors = [sensor.get("name") or sensor["type"] for sensor in run.env.sensors or ()]
    return {
        "environment": run.env.id,
        "sensors": ", ".join(map(str, sensors)) or "the environment's own",
        "backbone": run.policy.name,
        "trained": {"head": "the head", "lora": "the head and LoRA", "all": "everything"}[run.policy.train],
        "actions": _brief(run.action_space),
        "algorithm": type(run.algorithm).__name__,
        "seed": str(run.seed),
    }


def _brief(component: Any) -> str:
    """A component and its settings, in a line."""
    text = repr(component)
    return text if len(text) <= 120 else type(component).__name__


def _origin(checkpoint: Path) -> tuple[Path, str]:
    """The run folder that a checkpoint lies in, and its step: `.../checkpoints/<step>[/pretrained_model]`."""
    folder = checkpoint.resolve()
    folder = folder.parent if folder.name == "pretrained_model" else folder
    return folder.parent.parent, folder.name.lstrip("0") or "0"


def _read_info(path: Path) -> dict[str, Any]:
    try:
        info = json.loads(path.read_text("utf-8"))
        overall, rows = info["overall"], info["per_episode"]
        if not isinstance(overall["n_episodes"], int) or not isinstance(rows, list):
            raise TypeError("its n_episodes or per_episode is of another type")
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file; run `vla-rl eval` with run_dir={path.parent} first") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: damaged, or no result of `vla-rl eval`: {error!r}") from error
    return info


def _score(candidate: Candidate, info: Mapping[str, Any]) -> Score:
    rows = [row for row in info["per_episode"] if not row["invalid"]]
    env = ", ".join(info["per_group"])
    note = ", ".join(part for part in (candidate.note, info.get("about", {}).get("acting", "")) if part)
    won = sum(bool(row["success"]) for row in rows)
    return Score(candidate.name, env, won, len(rows), note, info["overall"].get("n_invalid", 0))


def _films(info: Mapping[str, Any], folder: Path) -> list[Film]:
    """The filmed episodes, from their videos."""
    from vla_rl.video import read_video

    films = []
    for row in info["per_episode"]:
        video = Path(row.get("video_path") or "")
        # The folder may have moved since: what counts is the place inside it.
        moved = folder.joinpath(*video.parts[-3:])
        found = next((path for path in (video, moved) if path.is_file()), None)
        if found:
            q = tuple(math.nan if value is None else float(value) for value in row.get("q", ()))
            note = f"seed {row['seed']} · {row['length']} steps"
            films.append(Film(row["task"], row["success"], read_video(found), q, note))
    return films
