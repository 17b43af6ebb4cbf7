"""What the command line says of itself: help, completion, and what was meant where a word is wrong."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vla_rl import cli
from vla_rl.config import completion

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"torch", "transformers", "accelerate", "mujoco", "gymnasium", "hydra", "pydantic"}


def commands() -> dict[str, argparse.ArgumentParser]:
    (choices,) = (each.choices for each in cli.parser()._actions if isinstance(each, argparse._SubParsersAction))
    return dict(choices)


@pytest.mark.parametrize("name", commands())
def test_help_says_first_what_a_command_does_and_shows_an_example_that_it_takes(name: str) -> None:
    first, blank, usage, *_ = (said := commands()[name].format_help()).splitlines()
    assert first[0].isupper()
    assert first.endswith(".")
    assert len(first) <= 100
    assert not blank
    assert usage.startswith(f"usage: vla-rl {name}")
    assert said.count("\nexample:\n") == 1
    example = said.partition("\nexample:\n")[2].splitlines()[0].strip()
    if name != "completion":
        words = shlex.split(example)
        assert words[:2] == ["vla-rl", name]
        assert cli._parse(words[1:]).run


def test_help_imports_nothing_that_takes_time() -> None:
    """By what is imported, since a machine's speed varies: of these each takes a tenth of a second or more."""
    code = f"""
import sys
from vla_rl.cli import main
for name in {["", *commands()]!r}:
    try:
        main([name, "--help"] if name else ["--help"])
    except SystemExit as stop:
        assert not stop.code
found = {HEAVY!r} & sys.modules.keys()
assert not found, found
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "did you mean 'train'?"),
        (["bench", "polices"], "did you mean 'policy'?"),
        (["list", "sensor"], "did you mean 'sensors'?"),
        (["play", "--lins"], "did you mean '--lines'?"),
        (["train", "--prnt", "env=reach"], "did you mean '--print'?"),
    ],
)
def test_a_wrong_word_is_answered_with_the_nearest_good_one(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(arguments)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "trian.steps=3"], "did you mean 'train'?"),
        (["train", "train.step=3"], "did you mean 'steps'?"),
        (["train", "env=raech"], "did you mean 'reach'?"),
        (["audit", "raech"], "did you mean 'reach'?"),
        (["train", "algorithm=pa_lr"], "did you mean 'pa_rl'?"),
        (["train", "env.sensors=[{type: camra}]"], "did you mean 'camera'?"),
        (["train", "env=fetch_reach", "env.adapter.suite=robotic"], "did you mean 'robotics'?"),
    ],
)
def test_a_wrong_key_or_name_is_answered_so_too(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = [f"run_dir={tmp_path}/run"] if arguments[0] == "train" else []
    assert cli.main([*arguments, *given]) == cli.USER_ERROR
    assert said in capsys.readouterr().err


# --- completion -----------------------------------------------------------------------------------------------


def test_keys_files_and_choices_are_completed() -> None:
    assert set(completion.overrides("train.st")) == {"train.steps=", "train.step_timeout="}
    assert set(completion.overrides("env=gui_c")) >= {"env=gui_calculator", "env=gui_chain"}
    assert set(completion.overrides("device=")) == {"device=auto", "device=cpu", "device=cuda"}
    assert set(completion.overrides("resume=")) == {"resume=true", "resume=false"}
    assert set(completion.overrides("pic")) == set()
    assert set(completion.overrides("pic", bare=True)) == {"pick"}
    assert set(completion.overrides("algorithm.gam")) == {"algorithm.gamma="}


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("vla-rl tra", {"train"}),
        ("vla-rl train --pri", {"--print"}),
        ("vla-rl train train.eval_ev", {"train.eval_every="}),
        ("vla-rl eval resume=t", {"true"}),  # bash takes what follows its "=" for a word
        ("vla-rl play pus", {"push", "pusht"}),
        ("vla-rl list sens", {"sensors"}),
    ],
)
def test_bash_completes(typed: str, wanted: set[str]) -> None:
    setup = f"""
eval "$(vla-rl completion bash)"
COMP_LINE={shlex.quote(typed)}; COMP_POINT=${{#COMP_LINE}}; COMP_TYPE=9; IFS=$' ' read -ra COMP_WORDS <<< "$COMP_LINE"
_python_argcomplete vla-rl
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", setup], env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert set(done.stdout.split()) == wanted, done.stderr


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh")
def test_zsh_takes_the_script() -> None:
    script = f"autoload -U compinit; compinit -u; {completion.script('zsh')}; whence _python_argcomplete"
    assert subprocess.check_output(["zsh", "-c", script], text=True)
