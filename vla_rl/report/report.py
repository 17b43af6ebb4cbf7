"""One self-contained `report.html`: what was evaluated, beside other policies, and how it learned."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_rl.evaluation.eval_info import INFO_FILE, video_path
from vla_rl.evaluation.outcome import EvalResult, Outcome
from vla_rl.paths import METRICS_FILE
from vla_rl.report.drawn import steps_told
from vla_rl.report.html import Film, Report, Score, page
from vla_rl.runtime.provenance import provenance

if TYPE_CHECKING:
    from vla_rl.config import RunConfig
    from vla_rl.envs import EnvSpec
    from vla_rl.runtime.checkpoint import Place

__all__ = ["Film", "Report", "Score", "films_of", "read_metrics", "read_score", "write_evaluation", "write_report"]

REPORT_FILE = "report.html"


def read_score(folder: Path, policy: str, note: str = "") -> Score:
    """The score of the evaluation that lies in `folder`, under the name `policy`.

    Raises:
        ValueError: `eval_info.json` is missing or damaged; it is named.
    """
    path = Path(folder) / INFO_FILE
    try:
        info = json.loads(path.read_text("utf-8"))
        valid = [row for row in info["per_episode"] if not row["invalid"]]
        won = sum(bool(row["success"]) for row in valid)
        acting = str(info["about"].get("acting", ""))
        invalid = len(info["per_episode"]) - len(valid)
        cost = sum(float(row.get("cost", 0.0)) for row in valid) / max(len(valid), 1)
        return Score(policy, ", ".join(info["per_group"]), won, len(valid), note or acting, invalid, cost)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file; run `vla-rl eval` with run_dir={folder} first") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: damaged, or no result of `vla-rl eval`: {error!r}") from error


def write_report(path: Path, report: Report) -> Path:
    """Write the page; returns its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(report), "utf-8")
    return path


def write_evaluation(
    run: RunConfig,
    results: Sequence[EvalResult],
    place: Place,
    acting: str,
    label: str | None = None,
    before: Sequence[Score] = (),
    critic: str = "",
    spec: EnvSpec | None = None,
) -> Path:
    """The report of `vla-rl eval`, in the run's folder, with the learning curve of the run that the policy lies in.

    `acting`: how the policy decided ("greedy"). `label`: what to call it. `before`: scores of other
    policies, shown first; the first of them as the one that learning started from. `critic`: how acting by the critic
    did in training, in words. `spec`: with it, films say what each decision was.
    """
    assert run.run_dir is not None, "a config is made by load()"
    step = f", step {place.generation.step}" if place.generation else ""
    policy = label or f"{run.policy.name}{step}"
    scores = [Score.of(result, policy, acting) for result in results]
    episodes = sum(len(result.outcomes) for result in results)
    report = Report(
        title=f"{run.env_name.replace('_', ' ').capitalize()}: {policy}",
        subtitle=f"{', '.join(env.id for env in run.envs)}, {episodes} episodes, {acting}",
        scores=[*before, *scores],
        summary=settings(run)
        | {"checkpoint": place.policy}
        | ({"in training": critic} if critic else {})
        | _withheld(run),
        films=[film for result in results for film in films_of(result, spec, run)],
        metrics=read_metrics(place.run_dir / METRICS_FILE) if place.run_dir else (),
        results=results,
        gamma=run.algorithm.needs.gamma,
        config=run.to_yaml(),
        made=provenance(),
        folder=run.run_dir,
    )
    return write_report(run.run_dir / REPORT_FILE, report)


def films_of(result: EvalResult, spec: EnvSpec | None = None, run: RunConfig | None = None) -> list[Film]:
    """The filmed episodes of an evaluation, successes first.

    spec: with it, what each decision was is told in words. run: names an action's numbers, and holds the videos.
    """
    return [_film(result, outcome, spec, run) for success in (True, False) for outcome in result.films(success)]


def _film(result: EvalResult, outcome: Outcome, spec: EnvSpec | None, run: RunConfig | None) -> Film:
    names = next((env.actions or () for env in run.envs if env.name == result.env), ()) if run else ()
    told = [each.said for each in steps_told(outcome, spec.tokens, spec.actions, names)] if spec else ()
    video = video_path(run.run_dir, result, outcome) if run and run.run_dir else None
    return Film(
        outcome.task,
        outcome.success,
        (outcome.sight.pictures if outcome.sight else outcome.frames) or (),
        outcome.q,
        f"seed {outcome.seed} · {outcome.length} steps",
        told,
        video if video and video.is_file() else None,
    )


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`; none where there is no file.

    What is no JSON object, as a line that a kill cut short, is left out, with a warning that names it.
    """
    if not Path(path).is_file():
        return []
    rows = []
    for number, line in enumerate(Path(path).read_text("utf-8", "replace").splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict):
            rows.append(row)
        else:
            warnings.warn(f"{path}, line {number}: no JSON object, left out: {line[:40]!r}", stacklevel=2)
    return rows


def settings(run: RunConfig) -> dict[str, str]:
    """What a reader wants to know of a run, in words."""
    sensors = [sensor.get("name") or sensor["type"] for sensor in run.env.sensors or ()]
    return {
        "environment": ", ".join(env.id for env in run.envs),
        "sensors": ", ".join(map(str, sensors)) or "the environment's own",
        "backbone": run.policy.name,
        "trained": {"head": "the head", "lora": "the head and LoRA", "all": "everything"}[run.policy.train],
        "actions": _brief(run.action_space),
        "algorithm": type(run.algorithm).__name__,
        "seed": str(run.seed),
    }


def _withheld(run: RunConfig) -> dict[str, str]:
    """What the checkpoint's config asked for and was not given."""
    return {f"asked for, not given: {key}": repr(value) for key, value in run.withheld.items()}


def _brief(component: Any) -> str:
    """A component and its settings, in a line."""
    text = repr(component)
    return text if len(text) <= 120 else type(component).__name__
