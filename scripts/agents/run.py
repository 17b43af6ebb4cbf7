"""One agent on one task: the same environment, demonstrations and held-out seeds for all. `bench_agents.sh` runs it.

Usage: python -m scripts.agents.run NAME TASK SEED [--steps N] [--every N] [KEY=VALUE ...]

KEY=VALUE changes a setting of the agent (of ours: of the run). What is written, OUT/NAME_TASK_SEED.json, says all
settings, those that were changed, where they come from, and success by environment steps and minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from scripts.agents import course as courses
from scripts.agents.course import Curve, Plan
from vla_rl.registry import ConfigError, nearest


@dataclass(frozen=True)
class Kind:
    """Agents of one module, which is imported when one of them is run: others' packages are not all there.

    on_its_own: it makes its runs itself, see `train_ours`.
    """

    module: str
    names: tuple[str, ...]
    on_its_own: bool = False


KINDS = (
    Kind("scripts.agents.train_sb3", ("sac", "sac_demos")),
    Kind("scripts.agents.train_pixels", ("drqv2", "drqv2_demos", "rlpd", "rlpd_alone")),
    Kind("scripts.agents.train_lerobot", ("lerobot_sac", "lerobot_sac_alone")),
    Kind("scripts.agents.train_ours", ("pa_rl", "filtered_bc"), on_its_own=True),
    Kind("scripts.agents.train_tiny_vla", ("tiny_vla",), on_its_own=True),
)
OUT = Path("outputs/agents")


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    kind = next(kind for kind in KINDS if options.name in kind.names)
    made = importlib.import_module(kind.module)
    plan = Plan(options.steps, options.every, options.episodes, options.minutes, options.until)
    path = options.out / f"{options.name}_{options.task}_{options.seed}{options.label and '_' + options.label}.json"
    about = {
        "agent": options.name,
        "label": options.label,
        "task": options.task,
        "seed": options.seed,
        "episodes": plan.episodes,
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
    }
    if kind.on_its_own:
        made.train(options.name, options.task, options.seed, plan, path, about, options.changes)
        return
    settings, source = made.AGENTS[options.name]
    settings = changed(settings, options.changes)
    about |= {"settings": dataclasses.asdict(settings), "changed": options.changes, "source": source}
    course = courses.course(options.task, options.seed, settings.image_size, options.out / "demos")
    made.train(course, settings, plan, Curve(path, about))


def changed(settings: Any, changes: Sequence[str]) -> Any:
    """Settings with some of their fields changed, by KEY=VALUE in YAML.

    Raises:
        ConfigError: a key that they do not have, or a value of another kind than the one before.
    """
    known = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    values = {}
    for change in changes:
        key, _, text = change.partition("=")
        if key not in known:
            raise ConfigError(f"{key}: no such setting; {nearest(key, known)}")
        value = yaml.safe_load(text)
        value = tuple(value) if isinstance(value, list) else value
        if isinstance(known[key], float) and type(value) is int:
            value = float(value)
        if type(value) is not type(known[key]):
            raise ConfigError(f"{key}: expected {type(known[key]).__name__}, such as {known[key]}; got {text!r}")
        values[key] = value
    return dataclasses.replace(settings, **values)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[name for kind in KINDS for name in kind.names])
    parser.add_argument("task", help="reach, push, or another experiment; toy: TorchRL's toy environment")
    parser.add_argument("seed", type=int)
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="such as updates_per_step=0.25")
    parser.add_argument("--steps", type=int, default=120_000, help="of the environment; default: 120000")
    parser.add_argument("--every", type=int, default=5_000, help="steps between evaluations; default: 5000")
    parser.add_argument("--episodes", type=int, default=100, help="of an evaluation; default: 100")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="of training, at most")
    parser.add_argument("--until", type=float, default=101.0, help="percent of success that end the run")
    parser.add_argument("--label", default="", help="added to the name, where settings are changed")
    parser.add_argument("--out", type=Path, default=OUT, help=f"default: {OUT}")
    return parser.parse_intermixed_args(arguments)


if __name__ == "__main__":
    try:
        main()
    except (ConfigError, FileExistsError) as error:
        raise SystemExit(f"agents: {error}") from error
