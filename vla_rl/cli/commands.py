"""Each command of the command line: its options, and what it hands them to.

Imports nothing heavy: a command's own module is imported when the command runs.
"""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

RUNS = {
    "demos": (
        "vla_rl.data.record:record",
        "record demonstrations of the environment's scripted expert",
        "vla-rl demos experiment=reach demos.episodes=8",
    ),
    "sft": (
        "vla_rl.sft:sft",
        "train a first policy by imitating the demonstrations",
        "vla-rl sft experiment=reach run_dir=outputs/start",
    ),
    "train": (
        "vla_rl.train:train",
        "fine-tune a policy by reinforcement learning",
        "vla-rl train experiment=reach train.checkpoint=outputs/start run_dir=outputs/rl",
    ),
    "eval": (
        "vla_rl.eval:evaluate_tasks",
        "evaluate a checkpoint on held-out seeds, with videos and a report",
        "vla-rl eval eval.checkpoint=outputs/rl eval.episodes=100",
    ),
}
"""Each command of a run: the function that carries it out, given the RunConfig, what it does, and an example."""

GROUPS = (
    "envs", "sensors", "controls", "experts", "tools", "action_spaces", "backbones", "goals", "listeners", "rehearsals",
    "algorithms", "costs", "credits", "occupancies", "adaptations",
)  # fmt: skip
AUDIT_FAILED = 1

Options = argparse.Namespace
Add = Callable[[str, str, str], argparse.ArgumentParser]
"""Adds a command of a name, with its purpose and an example."""


def add_all(commands: argparse._SubParsersAction[Any], common: argparse.ArgumentParser) -> None:
    """Add every command, in the order of the help; each has the options of `common`, too."""

    def add(name: str, purpose: str, example: str) -> argparse.ArgumentParser:
        """A command, whose help says its purpose first and an example last."""
        return commands.add_parser(
            name,
            parents=[common],
            help=purpose,
            description=f"{purpose[0].upper()}{purpose[1:]}.",
            epilog=example_of(example),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    for each in (
        *(_add_runs, _add_plan, _add_play, _add_cockpit, _add_audit, _add_export, _add_serve, _add_push, _add_pull),
        *(_add_compare, _add_list, _add_bench, _add_completion),
    ):
        each(add)


def example_of(line: str, *more: str) -> str:
    """The end of a help: a command line, and whatever else is to be said."""
    return "\n".join([f"example:\n  {line}", *more])


def function(reference: str) -> Any:
    """The function that a reference, "module:name", stands for."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


# --- runs ---


def _add_runs(add: Add) -> None:
    for name, (_, purpose, example) in RUNS.items():
        command = add(name, purpose, example)
        _add_overrides(command, "KEY=VALUE", "settings, such as env=push train.steps=1000; --print shows all keys")
        command.add_argument("--print", action="store_true", help="print the composed config and do nothing else")
        command.add_argument(
            "-m", "--multirun", action="store_true", help="one run for each combination of values, such as seed=1,2,3"
        )
        command.add_argument("--jobs", type=int, help="with -m: number of parallel runs; default: one per two cores")
        command.set_defaults(run=_run, command=name)


def _run(options: Options) -> int | None:
    """Compose the config, then hand it to the command's own module; of several, to a process for each."""
    from vla_rl import config

    if options.multirun:
        return function("vla_rl.sweep:sweep")(
            options.command, options.overrides, options.config_dir, options.jobs, options.print
        )
    if options.jobs is not None:
        raise ValueError(f"--jobs {options.jobs}: is of -m, which takes several values, such as seed=1,2,3")
    run = config.load(options.overrides, config_dir=options.config_dir, command=options.command)
    if options.print:
        print(run.to_yaml(), end="")
        return None
    function(RUNS[options.command][0])(run)
    return None


def _add_plan(add: Add) -> None:
    command = add(
        "plan",
        "tell what a run would take of memory and disk, before any weights are loaded",
        "vla-rl plan experiment=reach policy=smolvlm --gpu 80",
    )
    _add_overrides(command, "KEY=VALUE", "settings, as for train")
    command.add_argument("--gpu", type=float, metavar="GIB", help="plan for a GPU of so much memory; default: as here")
    _add_json(command)
    command.set_defaults(run=_handed_to("vla_rl.planning.command:command"))


# --- environments ---


def _add_play(add: Add) -> None:
    command = add(
        "play",
        "control an environment yourself, in a window or by text commands, and record demonstrations",
        "vla-rl play pick demos.path=my_demos",
    )
    _add_overrides(
        command,
        "ENV|KEY=VALUE",
        "an environment, such as pick, and settings, such as demos.path=my_demos demos.seed=100",
    )
    command.add_argument(
        "--lines", action="store_true", help="read text commands from stdin; the default without a display"
    )
    command.add_argument("--append", action="store_true", help="add to the demonstrations in demos.path")
    command.set_defaults(run=_play, command="play")


def _play(options: Options) -> None:
    function("vla_rl.play:play")(_named(options), lines=options.lines, append=options.append)


def _add_cockpit(add: Add) -> None:
    command = add(
        "cockpit", "open a page to watch a run and take over, or to act in an environment", "vla-rl cockpit outputs/rl"
    )
    _add_overrides(
        command, "RUN|ENV|KEY=VALUE", "a run's folder, or arguments as for play, such as pick demos.path=my_demos"
    )
    _add_address(command, 8700)
    command.add_argument("--append", action="store_true", help="add to the demonstrations in demos.path")
    command.set_defaults(run=_cockpit, command="cockpit")


def _cockpit(options: Options) -> None:
    given = (options.overrides, options.config_dir, options.host, options.port, options.append)
    function("vla_rl.cockpit.command:cockpit")(*given)


def _add_audit(add: Add) -> None:
    command = add(
        "audit",
        "check whether an environment can be trusted: exit code 0 if it can, 1 if not",
        "vla-rl audit pick --episodes 50",
    )
    _add_overrides(
        command,
        "ENV|KEY=VALUE",
        "an environment, such as pick or Reacher-v5, and settings, such as env.kwargs.horizon=30",
    )
    command.add_argument("--episodes", type=int, default=100, help="episodes per policy; default: 100")
    trains = "also train a policy on what is paid, for train.minutes (4), and see whether it games it"
    command.add_argument("--train-hacker", action="store_true", help=trains)
    _add_json(command)
    command.set_defaults(run=_audit, command="audit")


def _audit(options: Options) -> int:
    audit, run = function("vla_rl.audit.command:audit"), _named(options)
    passed = audit(run, options.episodes, as_json=options.json, train_hacker=options.train_hacker)
    return 0 if passed else AUDIT_FAILED


# --- what others get ---


def _add_export(add: Add) -> None:
    command = add(
        "export",
        "write demonstrations, or a run's replay, as a LeRobotDataset (v3)",
        "vla-rl export outputs/demos/reach my_dataset --mode video",
    )
    command.add_argument("source", type=Path, help="a folder of demonstrations, or of a run")
    command.add_argument("out", type=Path, help="the dataset's folder; must not exist yet")
    _add_overrides(command, "KEY=VALUE", "settings of the run, such as plugins=[my_module]")
    command.add_argument("--mode", choices=("image", "video"), default="image", help="image: lossless; video: smaller")
    command.add_argument("--fps", type=float, default=10, help="frames per second of the dataset; default: 10")
    command.set_defaults(run=_export)


def _export(options: Options) -> None:
    function("vla_rl.export:export")(
        options.source, options.out, options.mode, options.fps, options.overrides, options.config_dir
    )


def _add_serve(add: Add) -> None:
    command = add(
        "serve",
        "serve a checkpoint's decisions to robots and programs elsewhere, by openpi's websocket protocol",
        "vla-rl serve outputs/rl --port 8000",
    )
    command.add_argument("checkpoint", help="a run's folder, a checkpoint, or a hub id")
    _add_overrides(command, "KEY=VALUE", "settings, such as device=cuda eval.best_of=16 plugins=[my_module]")
    _add_address(command, 8000)
    command.add_argument("--batch", type=int, default=32, help="decisions that are made together; default: 32")
    command.add_argument("--clients", type=int, default=64, help="clients at the same time; default: 64")
    command.add_argument("--timeout", type=float, default=30, help="seconds that a decision may take; default: 30")
    command.add_argument("--max-mb", type=float, default=8, help="megabytes of an observation; default: 8")
    command.set_defaults(run=_serve)


def _serve(options: Options) -> None:
    where = (options.checkpoint, options.overrides, options.config_dir, options.host, options.port)
    function("vla_rl.serve:serve")(*where, options.batch, options.clients, options.timeout, options.max_mb)


def _add_push(add: Add) -> None:
    command = add(
        "push",
        "upload a checkpoint's policy to the Hugging Face hub, with a model card",
        "vla-rl push outputs/rl owner/name",
    )
    command.add_argument("checkpoint", type=Path, help="a run's folder, or a checkpoint")
    command.add_argument("name", help="the repository, owner/name; made if it is not there")
    _add_overrides(command, "KEY=VALUE", "settings of the run, such as plugins=[my_module]")
    command.add_argument("--evaluation", type=Path, help="a folder of vla-rl eval, whose table the card shows")
    command.add_argument("--private", action="store_true", help="if the repository is made, make it private")
    command.add_argument("--revision", help="a branch of the repository; default: main")
    command.set_defaults(run=_handed_to("vla_rl.sharing.command:push"))


def _add_pull(add: Add) -> None:
    command = add(
        "pull", "download a policy from the Hugging Face hub, and check it", "vla-rl pull owner/name outputs/theirs"
    )
    command.add_argument("name", help="the repository, owner/name")
    command.add_argument("folder", nargs="?", type=Path, help="a new folder; default: outputs/pulled/owner/name")
    command.add_argument("--revision", help="a branch, tag or commit; default: main")
    command.add_argument("--max-gb", type=float, default=20, help="refuse a larger repository; default: 20")
    command.set_defaults(run=_handed_to("vla_rl.sharing.command:pull"))


# --- what a person looks at ---


def _add_compare(add: Add) -> None:
    command = add(
        "compare",
        "compare runs on one page, with bands over seeds, differences and videos",
        "vla-rl compare outputs/rl outputs/other --out outputs/compare.html",
    )
    command.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a folder of a run, evaluation or sweep")
    command.add_argument("--out", type=Path, help="the page, or its folder; default: one in outputs/compare")
    command.add_argument("--metric", action="append", default=[], help="also plot this key of metrics.jsonl")
    _add_json(command)
    command.set_defaults(run=_compare)


def _compare(options: Options) -> None:
    function("vla_rl.compare:compare")(options.runs, options.out, options.metric, as_json=options.json)


def _add_list(add: Add) -> None:
    command = add("list", "list the components that a config can name, with their parameters", "vla-rl list sensors")
    command.add_argument("group", nargs="?", choices=GROUPS, help="one group; default: all")
    _add_json(command)
    command.set_defaults(run=_list)


def _list(options: Options) -> None:
    from vla_rl.config import catalog

    groups = [options.group] if options.group else list(GROUPS)
    found = {group: catalog.describe_group(group) for group in groups}
    print(json.dumps(found, indent=2, ensure_ascii=False) if options.json else catalog.to_text(found))


def _add_bench(add: Add) -> None:
    command = add(
        "bench", "benchmark speed and memory, as fractions of what is possible", "vla-rl bench envs pick reach"
    )
    command.add_argument(
        "suite",
        nargs="?",
        choices=("smoke", "envs", "replay", "policy", "learner", "critic"),
        default="smoke",
        help="smoke: environment, learner, replay and decisions of one run; envs: every environment's speed; "
        "replay: our and other replay buffers (scripts/bench_rivals.sh installs those); policy: decisions against "
        "generate(); learner: updates against a bare loop, cached features against encoding; critic: a run's critic "
        "against rollouts from snapshots",
    )
    command.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="with envs: only these, such as pick, Reacher-v5, and KEY=VALUE; with replay: rivals; with critic: a "
        "run's folder, and KEY=VALUE",
    )
    command.add_argument("--large", action="store_true", help="with policy: also a backbone of SmolVLM-256M's size")
    command.add_argument("--states", type=int, default=32, help="with critic: number of states; default: 32")
    command.add_argument("--decisions", type=int, default=8, help="with critic: decisions per state; default: 8")
    command.add_argument("--rollouts", type=int, default=16, help="with critic: rollouts per decision; default: 16")
    _add_json(command)
    command.set_defaults(run=_handed_to("vla_rl.bench.command:bench"))


def _add_completion(add: Add) -> None:
    command = add(
        "completion",
        "print a script that lets your shell complete commands, keys and environments",
        'eval "$(vla-rl completion bash)"    (in ~/.bashrc; for zsh in ~/.zshrc, after compinit)',
    )
    command.add_argument("shell", choices=("bash", "zsh"))
    command.set_defaults(run=_completion)


def _completion(options: Options) -> None:
    print(function("vla_rl.config.completion:script")(options.shell))


# --- what several have ---


def _add_overrides(command: argparse.ArgumentParser, metavar: str, examples: str) -> None:
    command.add_argument("overrides", nargs="*", metavar=metavar, help=examples)
    command.add_argument("--config-dir", type=Path, help="a folder of your own env/, policy/, ... YAML files")


def _add_address(command: argparse.ArgumentParser, port: int) -> None:
    here = "the address to listen on; default: 127.0.0.1, only this machine"
    command.add_argument("--host", default="127.0.0.1", help=here)
    command.add_argument("--port", type=int, default=port, help=f"the port; default: {port}; 0 picks a free one")


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def _named(options: Options) -> Any:
    """The config of a command that also takes an environment's bare name."""
    from vla_rl import config
    from vla_rl.envs import shorthand

    overrides = shorthand.overrides_of(options.overrides, options.config_dir)
    return config.load(overrides, config_dir=options.config_dir, command=options.command)


def _handed_to(reference: str) -> Callable[[Options], Any]:
    """What hands the options to a command's own function."""
    return lambda options: function(reference)(options)
