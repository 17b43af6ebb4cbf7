"""The command line: `vla-rl demos | sft | train | eval | plan | play | cockpit | serve | push | pull | compare | ...`.

Imports nothing heavy: a command's own module is imported when the command runs.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vla_rl import __version__
from vla_rl.specs import readable

COMMANDS = {
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
DEBUG = "VLA_RL_TRACEBACK"
"""Set this environment variable (or give --traceback) to see where an error came from."""
AUDIT_FAILED = 1
USER_ERROR = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 where an audit fails or what is planned does not fit, or 2 for a
    user's error, said in one line."""
    options = _parse(arguments)
    # The user's own modules lie where the command is run; last, so that they hide nothing.
    sys.path.append(os.getcwd())
    try:
        return options.run(options) or 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if options.traceback or os.environ.get(DEBUG) or not _is_for_user(error):
            raise
        notes = [note for note in getattr(error, "__notes__", ()) if "\n" not in note]  # but no traceback
        for said in (f"error: {error}", *notes):
            print(f"vla-rl: {readable(said)}", file=sys.stderr)
        if type(error) is ValueError:  # perhaps a fault of the program after all
            print(f"vla-rl: {DEBUG}=1 shows where this came from", file=sys.stderr)
        return USER_ERROR


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; overrides may stand before and after the flags."""
    top = parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what may follow
        _function("vla_rl.config.completion:answer")(top)
    options, rest = top.parse_known_args(arguments)
    if any(text.startswith("-") for text in rest) or (rest and not hasattr(options, "overrides")):
        top.error(f"unrecognized arguments: {' '.join(rest)}{_flag_meant(top, rest, arguments)}")
    if rest:
        options.overrides += rest
    return options


class Parser(argparse.ArgumentParser):
    """Says in the first line of its help what the command does, and the nearest good one of a wrong choice."""

    def format_help(self) -> str:
        usage, _, rest = super().format_help().partition("\n\n")
        said, _, rest = rest.partition("\n\n")
        return f"{said}\n\n{usage}\n\n{rest}" if self.description else f"{usage}\n\n{said}\n\n{rest}"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            from vla_rl.registry import nearest

            raise argparse.ArgumentError(action, f"no {value!r}; {nearest(value, action.choices or ())}") from error


def _flag_meant(top: argparse.ArgumentParser, rest: Sequence[str], arguments: Sequence[str] | None) -> str:
    """The nearest flag of the command, where an unknown one was given."""
    from vla_rl.registry import nearest

    wrong = next((text for text in rest if text.startswith("--")), None)
    commands = next(each for each in top._actions if isinstance(each, argparse._SubParsersAction)).choices
    given = sys.argv[1:] if arguments is None else arguments
    chosen = next((commands[word] for word in given if word in commands), top)
    flags = [flag for action in chosen._actions for flag in action.option_strings if flag.startswith("--")]
    return f"; {nearest(wrong, flags)}" if wrong else ""


def _is_for_user(error: Exception) -> bool:
    """Whether the message is for whoever runs the command: a bad value, a missing file, a machine not set up, ..."""
    from vla_rl.registry import FaultError, SetupError

    return isinstance(error, (ValueError, OSError, SetupError, FaultError))


def parser() -> argparse.ArgumentParser:
    """Every command and option."""
    top = Parser(
        prog="vla-rl",
        description="Reinforcement learning for vision-language-action policies.",
        epilog=_example("vla-rl train experiment=reach", "`vla-rl COMMAND --help` explains a command."),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"vla-rl {__version__}")
    common = Parser(add_help=False)
    common.add_argument("--traceback", action="store_true", help=f"show the traceback of an error (or set {DEBUG})")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, purpose: str, example: str) -> argparse.ArgumentParser:
        """A command, whose help says its purpose first and an example last."""
        return commands.add_parser(
            name,
            parents=[common],
            help=purpose,
            description=f"{purpose[0].upper()}{purpose[1:]}.",
            epilog=_example(example),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    for name, (_, purpose, example) in COMMANDS.items():
        command = add(name, purpose, example)
        _add_overrides(command, "KEY=VALUE", "settings, such as env=push train.steps=1000; --print shows all keys")
        command.add_argument("--print", action="store_true", help="print the composed config and do nothing else")
        command.add_argument(
            "-m", "--multirun", action="store_true", help="one run for each combination of values, such as seed=1,2,3"
        )
        command.add_argument("--jobs", type=int, help="with -m: number of parallel runs; default: one per two cores")
        command.set_defaults(run=_run, command=name)
    planning = add(
        "plan",
        "tell what a run would take of memory and disk, before any weights are loaded",
        "vla-rl plan experiment=reach policy=smolvlm --gpu 80",
    )
    _add_overrides(planning, "KEY=VALUE", "settings, as for train")
    planning.add_argument("--gpu", type=float, metavar="GIB", help="plan for a GPU of so much memory; default: as here")
    planning.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    planning.set_defaults(run=_handed_to("vla_rl.planning.command:command"))
    play = add(
        "play",
        "control an environment yourself, in a window or by text commands, and record demonstrations",
        "vla-rl play pick demos.path=my_demos",
    )
    _add_overrides(
        play, "ENV|KEY=VALUE", "an environment, such as pick, and settings, such as demos.path=my_demos demos.seed=100"
    )
    play.add_argument(
        "--lines", action="store_true", help="read text commands from stdin; the default without a display"
    )
    play.add_argument("--append", action="store_true", help="add to the demonstrations in demos.path")
    play.set_defaults(run=_play, command="play")
    cockpit = add(
        "cockpit",
        "open a page to watch a run and take over, or to act in an environment",
        "vla-rl cockpit outputs/rl",
    )
    _add_overrides(
        cockpit, "RUN|ENV|KEY=VALUE", "a run's folder, or arguments as for play, such as pick demos.path=my_demos"
    )
    _add_address(cockpit, 8700)
    cockpit.add_argument("--append", action="store_true", help="add to the demonstrations in demos.path")
    cockpit.set_defaults(run=_cockpit, command="cockpit")
    audit = add(
        "audit",
        "check whether an environment can be trusted: exit code 0 if it can, 1 if not",
        "vla-rl audit pick --episodes 50",
    )
    _add_overrides(
        audit,
        "ENV|KEY=VALUE",
        "an environment, such as pick or Reacher-v5, and settings, such as env.kwargs.horizon=30",
    )
    audit.add_argument("--episodes", type=int, default=100, help="episodes per policy; default: 100")
    trains = "also train a policy on what is paid, for train.minutes (4), and see whether it games it"
    audit.add_argument("--train-hacker", action="store_true", help=trains)
    audit.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    audit.set_defaults(run=_audit, command="audit")
    export = add(
        "export",
        "write demonstrations, or a run's replay, as a LeRobotDataset (v3)",
        "vla-rl export outputs/demos/reach my_dataset --mode video",
    )
    export.add_argument("source", type=Path, help="a folder of demonstrations, or of a run")
    export.add_argument("out", type=Path, help="the dataset's folder; must not exist yet")
    _add_overrides(export, "KEY=VALUE", "settings of the run, such as plugins=[my_module]")
    export.add_argument("--mode", choices=("image", "video"), default="image", help="image: lossless; video: smaller")
    export.add_argument("--fps", type=float, default=10, help="frames per second of the dataset; default: 10")
    export.set_defaults(run=_export)
    serving = add(
        "serve",
        "serve a checkpoint's decisions to robots and programs elsewhere, by openpi's websocket protocol",
        "vla-rl serve outputs/rl --port 8000",
    )
    serving.add_argument("checkpoint", help="a run's folder, a checkpoint, or a hub id")
    _add_overrides(serving, "KEY=VALUE", "settings, such as device=cuda eval.best_of=16 plugins=[my_module]")
    _add_address(serving, 8000)
    serving.add_argument("--batch", type=int, default=32, help="decisions that are made together; default: 32")
    serving.add_argument("--clients", type=int, default=64, help="clients at the same time; default: 64")
    serving.add_argument("--timeout", type=float, default=30, help="seconds that a decision may take; default: 30")
    serving.add_argument("--max-mb", type=float, default=8, help="megabytes of an observation; default: 8")
    serving.set_defaults(run=_serve)
    push = add(
        "push",
        "upload a checkpoint's policy to the Hugging Face hub, with a model card",
        "vla-rl push outputs/rl owner/name",
    )
    push.add_argument("checkpoint", type=Path, help="a run's folder, or a checkpoint")
    push.add_argument("name", help="the repository, owner/name; made if it is not there")
    _add_overrides(push, "KEY=VALUE", "settings of the run, such as plugins=[my_module]")
    push.add_argument("--evaluation", type=Path, help="a folder of vla-rl eval, whose table the card shows")
    push.add_argument("--private", action="store_true", help="if the repository is made, make it private")
    push.add_argument("--revision", help="a branch of the repository; default: main")
    push.set_defaults(run=_handed_to("vla_rl.sharing.command:push"))
    pull = add(
        "pull", "download a policy from the Hugging Face hub, and check it", "vla-rl pull owner/name outputs/theirs"
    )
    pull.add_argument("name", help="the repository, owner/name")
    pull.add_argument("folder", nargs="?", type=Path, help="a new folder; default: outputs/pulled/owner/name")
    pull.add_argument("--revision", help="a branch, tag or commit; default: main")
    pull.add_argument("--max-gb", type=float, default=20, help="refuse a larger repository; default: 20")
    pull.set_defaults(run=_handed_to("vla_rl.sharing.command:pull"))
    compare = add(
        "compare",
        "compare runs on one page, with bands over seeds, differences and videos",
        "vla-rl compare outputs/rl outputs/other --out outputs/compare.html",
    )
    compare.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a folder of a run, evaluation or sweep")
    compare.add_argument("--out", type=Path, help="the page, or its folder; default: one in outputs/compare")
    compare.add_argument("--metric", action="append", default=[], help="also plot this key of metrics.jsonl")
    compare.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    compare.set_defaults(run=_compare)
    listing = add("list", "list the components that a config can name, with their parameters", "vla-rl list sensors")
    listing.add_argument("group", nargs="?", choices=GROUPS, help="one group; default: all")
    listing.add_argument("--json", action="store_true", help="print one JSON object")
    listing.set_defaults(run=_list)
    bench = add("bench", "benchmark speed and memory, as fractions of what is possible", "vla-rl bench envs pick reach")
    bench.add_argument(
        "suite",
        nargs="?",
        choices=("smoke", "envs", "replay", "policy", "learner", "critic"),
        default="smoke",
        help="smoke: environment, learner, replay and decisions of one run; envs: every environment's speed; "
        "replay: our and other replay buffers (scripts/bench_rivals.sh installs those); policy: decisions against "
        "generate(); learner: updates against a bare loop, cached features against encoding; critic: a run's critic "
        "against rollouts from snapshots",
    )
    bench.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="with envs: only these, such as pick, Reacher-v5, and KEY=VALUE; with replay: rivals; with critic: a "
        "run's folder, and KEY=VALUE",
    )
    bench.add_argument("--large", action="store_true", help="with policy: also a backbone of SmolVLM-256M's size")
    bench.add_argument("--states", type=int, default=32, help="with critic: number of states; default: 32")
    bench.add_argument("--decisions", type=int, default=8, help="with critic: decisions per state; default: 8")
    bench.add_argument("--rollouts", type=int, default=16, help="with critic: rollouts per decision; default: 16")
    bench.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    bench.set_defaults(run=_handed_to("vla_rl.bench.command:bench"))
    completion = add(
        "completion",
        "print a script that lets your shell complete commands, keys and environments",
        'eval "$(vla-rl completion bash)"    (in ~/.bashrc; for zsh in ~/.zshrc, after compinit)',
    )
    completion.add_argument("shell", choices=("bash", "zsh"))
    completion.set_defaults(run=_completion)
    return top


def _example(line: str, *more: str) -> str:
    return "\n".join([f"example:\n  {line}", *more])


def _add_overrides(command: argparse.ArgumentParser, metavar: str, examples: str) -> None:
    command.add_argument("overrides", nargs="*", metavar=metavar, help=examples)
    command.add_argument("--config-dir", type=Path, help="a folder of your own env/, policy/, ... YAML files")


def _add_address(command: argparse.ArgumentParser, port: int) -> None:
    here = "the address to listen on; default: 127.0.0.1, only this machine"
    command.add_argument("--host", default="127.0.0.1", help=here)
    command.add_argument("--port", type=int, default=port, help=f"the port; default: {port}; 0 picks a free one")


def _play(options: argparse.Namespace) -> None:
    _function("vla_rl.play:play")(_named(options), lines=options.lines, append=options.append)


def _cockpit(options: argparse.Namespace) -> None:
    given = (options.overrides, options.config_dir, options.host, options.port, options.append)
    _function("vla_rl.cockpit.command:cockpit")(*given)


def _audit(options: argparse.Namespace) -> int:
    audit, run = _function("vla_rl.audit.command:audit"), _named(options)
    passed = audit(run, options.episodes, as_json=options.json, train_hacker=options.train_hacker)
    return 0 if passed else AUDIT_FAILED


def _export(options: argparse.Namespace) -> None:
    _function("vla_rl.export:export")(
        options.source, options.out, options.mode, options.fps, options.overrides, options.config_dir
    )


def _compare(options: argparse.Namespace) -> None:
    _function("vla_rl.compare:compare")(options.runs, options.out, options.metric, as_json=options.json)


def _named(options: argparse.Namespace) -> Any:
    """The config of a command that also takes an environment's bare name."""
    from vla_rl import config
    from vla_rl.envs import shorthand

    overrides = shorthand.overrides_of(options.overrides, options.config_dir)
    return config.load(overrides, config_dir=options.config_dir, command=options.command)


def _run(options: argparse.Namespace) -> int | None:
    """Compose the config, then hand it to the command's own module; of several, to a process for each."""
    from vla_rl import config

    if options.multirun:
        return _function("vla_rl.sweep:sweep")(
            options.command, options.overrides, options.config_dir, options.jobs, options.print
        )
    if options.jobs is not None:
        raise ValueError(f"--jobs {options.jobs}: is of -m, which takes several values, such as seed=1,2,3")
    run = config.load(options.overrides, config_dir=options.config_dir, command=options.command)
    if options.print:
        print(run.to_yaml(), end="")
        return None
    _function(COMMANDS[options.command][0])(run)
    return None


def _list(options: argparse.Namespace) -> None:
    from vla_rl.config import catalog

    groups = [options.group] if options.group else list(GROUPS)
    found = {group: catalog.describe_group(group) for group in groups}
    print(json.dumps(found, indent=2, ensure_ascii=False) if options.json else catalog.to_text(found))


def _completion(options: argparse.Namespace) -> None:
    print(_function("vla_rl.config.completion:script")(options.shell))


def _serve(options: argparse.Namespace) -> None:
    where = (options.checkpoint, options.overrides, options.config_dir, options.host, options.port)
    _function("vla_rl.serve:serve")(*where, options.batch, options.clients, options.timeout, options.max_mb)


def _handed_to(reference: str) -> Any:
    """What hands the options to a command's own function."""
    return lambda options: _function(reference)(options)


def _function(reference: str) -> Any:
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


if __name__ == "__main__":
    raise SystemExit(main())
