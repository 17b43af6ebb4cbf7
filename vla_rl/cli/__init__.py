"""The command line: `vla-rl demos | sft | train | eval | plan | play | cockpit | serve | push | pull | compare | ...`.

Imports nothing heavy: a command's own module is imported when the command runs. `commands` has each one's options.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from vla_rl import __version__
from vla_rl.cli import commands
from vla_rl.specs import readable

DEBUG = "VLA_RL_TRACEBACK"
"""Set this environment variable (or give --traceback) to see where an error came from."""
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
        commands.function("vla_rl.config.completion:answer")(top)
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
    known = next(each for each in top._actions if isinstance(each, argparse._SubParsersAction)).choices
    given = sys.argv[1:] if arguments is None else arguments
    chosen = next((known[word] for word in given if word in known), top)
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
        epilog=commands.example_of("vla-rl train experiment=reach", "`vla-rl COMMAND --help` explains a command."),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"vla-rl {__version__}")
    common = Parser(add_help=False)
    common.add_argument("--traceback", action="store_true", help=f"show the traceback of an error (or set {DEBUG})")
    commands.add_all(top.add_subparsers(title="commands", metavar="COMMAND", required=True), common)
    return top
