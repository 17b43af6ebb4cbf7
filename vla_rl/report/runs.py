"""What lies in the folders of runs and of evaluations, as comparisons need it: settings, curves, scores, films.

Nothing is built and nothing is imported from what a folder's config names: anybody's runs can be compared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from vla_rl.config.compose import CONFIG_FILE
from vla_rl.config.sources import flat, read_yaml
from vla_rl.config.sweeps import SWEEP_FILE
from vla_rl.evaluation.eval_info import EVALUATION, INFO_FILE
from vla_rl.evaluation.outcome import Tally
from vla_rl.paths import METRICS_FILE
from vla_rl.report.report import read_metrics
from vla_rl.runtime.generations import LAST, last

NOT_SETTINGS = ("seed", "demos.seed", "run_dir", "resume", "tracker")
"""The dotted keys of a config in which runs of one group may differ: what is drawn, and where it is written."""
OF_EVALUATION = "eval"
_HOW_EVALUATED = ("best_of", "episodes", "seed", "after_episodes")
"""The keys of `eval` that decide what is measured; the others say how fast, and what is filmed."""


@dataclass(frozen=True)
class Tried:
    """One run, one evaluation, or both: what was set, how it went.

    settings: by dotted key, without those of NOT_SETTINGS. seed: the run's; None where no config tells it.
    metrics: the lines of `metrics.jsonl`. scores: by task, of `measured`: "held-out seeds", "validation seeds", or "".
    films: paths of mp4 by (task, seed). step: the last that it tells of.
    """

    folder: Path
    settings: Mapping[str, Any]
    seed: int | None
    metrics: Sequence[Mapping[str, Any]] = ()
    scores: Mapping[str, Tally] = field(default_factory=dict)
    measured: str = ""
    films: Mapping[tuple[str, int], Path] = field(default_factory=dict)

    @property
    def step(self) -> int:
        """The last that its metrics tell of; 0 without any."""
        return max((int(row.get("step", 0)) for row in self.metrics), default=0)

    @property
    def score(self) -> Tally | None:
        """Over all tasks; None where nothing was measured."""
        if not self.scores:
            return None
        return Tally(sum(s.won for s in self.scores.values()), sum(s.episodes for s in self.scores.values()))


def read_runs(folders: Sequence[Path]) -> list[Tried]:
    """What lies in the folders of runs, of evaluations and of sweeps. A run of which an evaluation is given, too, is
    listed once, with it.

    Raises:
        ValueError: a folder is none of these, or is damaged; it is named.
    """
    each = list(dict.fromkeys(run.resolve() for folder in folders for run in _listed(Path(folder))))
    evaluations = [_evaluation(folder) for folder in each if (folder / INFO_FILE).is_file()]
    measured = {run for _, run in evaluations}
    bare = [_run(folder) for folder in each if not (folder / INFO_FILE).is_file() and folder not in measured]
    return [tried for tried, _ in evaluations] + bare


def _listed(folder: Path) -> list[Path]:
    """The folder itself; of a sweep, those of its runs that have begun."""
    if (folder / SWEEP_FILE).is_file():
        try:
            names = [str(each["name"]) for each in json.loads((folder / SWEEP_FILE).read_text("utf-8"))["runs"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{folder / SWEEP_FILE}: damaged: {error!r}") from error
        return [folder / name for name in names if _holds_a_run(folder / name)]
    if not _holds_a_run(folder):
        raise ValueError(
            f"{folder}: holds no run ({CONFIG_FILE}), no evaluation ({INFO_FILE}) and no sweep ({SWEEP_FILE}); give "
            "the folder that `vla-rl train`, `sft` or `eval` wrote"
        )
    return [folder]


def _holds_a_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (CONFIG_FILE, INFO_FILE))


def _run(folder: Path) -> Tried:
    """A run by itself: what its last validation found is its score."""
    config, metrics = _config(folder), read_metrics(folder / METRICS_FILE)
    validated = [row for row in metrics if row.get("eval/episodes") and "eval/pc_success" in row]
    scores = {"": _validation(validated[-1])} if validated else {}
    kept = {key: value for key, value in _settings(config, folder).items() if not key.startswith(f"{OF_EVALUATION}.")}
    return Tried(folder, kept, config.get("seed"), metrics, scores, "validation seeds" if scores else "")


def _validation(row: Mapping[str, Any]) -> Tally:
    episodes = int(row["eval/episodes"])
    return Tally(round(row["eval/pc_success"] * episodes / 100), episodes)


def _evaluation(folder: Path) -> tuple[Tried, Path | None]:
    """An evaluation, with the run that it measured where that is still there; and that run's folder."""
    path = folder / INFO_FILE
    try:
        info = json.loads(path.read_text("utf-8"))
        tasks = _tasks_of(info)
        rows = [(tasks[row["episode_ix"]], row) for row in info["per_episode"] if not row["invalid"]]
        won = {task: [bool(row["success"]) for of, row in rows if of == task] for task in info["per_group"]}
        scores = {str(task): Tally(sum(each), len(each)) for task, each in won.items()}
        told = {(task, int(row["seed"])): row.get("video_path") for task, row in rows}
        films = {key: film for key, path in told.items() if path and (film := _film(folder, path))}
        checkpoint = info["about"].get("checkpoint")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{path}: damaged, or no result of `vla-rl eval`: {error!r}") from error
    of_folder = next((each for each in (folder / EVALUATION, folder) if (each / CONFIG_FILE).is_file()), None)
    own = _config(of_folder) if of_folder else {}
    run = run_of(checkpoint)
    settings, seed, metrics = _settings(own, folder), own.get("seed"), []
    if run is not None:
        config = _config(run)
        settings = _settings(config, run) | {k: v for k, v in settings.items() if k.startswith("env.")}
        seed, metrics = config.get("seed"), read_metrics(run / METRICS_FILE)
    settings = {key: value for key, value in settings.items() if not key.startswith(f"{OF_EVALUATION}.")}
    how = own.get(OF_EVALUATION) or {"acting": info["about"].get("acting")}
    settings |= {f"eval.{key}": how[key] for key in (*_HOW_EVALUATED, "acting") if key in how}
    settings["eval.checkpoint"] = _checkpoint_name(checkpoint, run)
    return Tried(folder, settings, seed, metrics, scores, "held-out seeds", films), run


def _tasks_of(info: Mapping[str, Any]) -> list[str]:
    """The task of each episode: they are listed one task after another."""
    return [
        str(group)
        for group, numbers in info["per_group"].items()
        for _ in range(int(numbers["n_episodes"]) + int(numbers["n_invalid"]))
    ]


def _film(folder: Path, path: str) -> Path | None:
    """A film, in the folder as it lies now; nothing outside of it, whatever the file says."""
    film = (folder / "videos" / Path(path).parent.name / Path(path).name).resolve()
    return film if film.is_file() and film.is_relative_to(folder.resolve()) else None


def run_of(checkpoint: Any) -> Path | None:
    """The folder of the run whose checkpoint this is; None where there is none, or it is gone."""
    if not checkpoint:
        return None
    path = Path(str(checkpoint)).expanduser().resolve()
    return next((each for each in (path, *list(path.parents)[:3]) if (each / CONFIG_FILE).is_file()), None)


def _checkpoint_name(checkpoint: Any, run: Path | None) -> str:
    """Which of a run's checkpoints: "last", or its step; the path itself where its run is gone."""
    if run is None:
        return str(checkpoint)
    path = Path(str(checkpoint)).expanduser().resolve()
    newest, parts = last(run), path.relative_to(run).parts[1:2]
    return LAST if not parts or newest is None or parts[0] in (LAST, newest.name) else parts[0]


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    try:
        tree = OmegaConf.to_container(read_yaml(path), resolve=False)
    except (OSError, UnicodeDecodeError, OmegaConfBaseException, YAMLError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: expected the keys of a run")
    return {str(key): value for key, value in tree.items()}


def _settings(config: Mapping[str, Any], folder: Path, depth: int = 0) -> dict[str, Any]:
    """A config by dotted key, less NOT_SETTINGS.

    A checkpoint that the run began from stands for the settings of the run that made it, and demonstrations for how
    they were recorded: those that each seed has of its own make no other group.
    """
    found = {key: value for key, value in flat(config).items() if key not in NOT_SETTINGS}
    if "demos.path" in found:
        found["demos.path"] = _demonstrations(found["demos.path"])
    key = "train.checkpoint"
    start = run_of(found.get(key)) if depth < 4 else None
    if start is not None and start != folder.resolve():
        name = _checkpoint_name(found[key], start)
        inner = _settings(_config(start), start, depth + 1)
        found[key] = name
        found |= {
            f"started from: {k}": v
            for k, v in inner.items()
            if not k.startswith(f"{OF_EVALUATION}.") and found.get(k) != v
        }
    return found


def _demonstrations(path: Any) -> str:
    """How the demonstrations of a folder were recorded; its path where it does not say, or is gone."""
    try:
        meta = json.loads((Path(str(path)).expanduser() / "meta.json").read_text("utf-8"))
        return f"{len(meta['episodes'])} of {meta['env']}, noise {meta['noise']}"
    except (OSError, ValueError, KeyError, TypeError):
        return str(path)
