"""The command line as a person meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vla_rl import cli, registry
from vla_rl.cli import commands
from vla_rl.config import RunConfig, catalog

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "transformers", "accelerate")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """The runs that were handed to `train`, which does nothing here."""
    runs: list[RunConfig] = []
    real = commands.function
    monkeypatch.setattr(commands, "function", lambda name: runs.append if name == "vla_rl.train:train" else real(name))
    return runs


@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "--help"], ["list"], ["list", "--json"], ["train", "--print"]]
)
def test_help_and_list_load_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
import sys
from vla_rl.cli import main
try:
    code = main({arguments!r})
except SystemExit as stop:
    code = stop.code
sys.exit(code or [name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.strip() in ("", "[]")


def test_the_program_prints_one_line_and_exits_with_2_for_a_users_error() -> None:
    command = [sys.executable, "-m", "vla_rl.cli", "train", "train.stepz=3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == cli.USER_ERROR
    assert done.stdout == ""
    assert done.stderr == "vla-rl: error: train.stepz: unknown key (got 3); did you mean 'steps'?\n"


def test_a_command_hands_its_config_to_its_module(trained: list[RunConfig]) -> None:
    assert cli.main(["train", "env=push", "--traceback", "train.steps=3"]) == 0
    assert [(run.env.name, run.train.steps) for run in trained] == [("push", 3)]


def test_print_shows_the_config_and_does_nothing(trained: list[RunConfig], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--print", "train.steps=3"]) == 0
    assert "  steps: 3\n" in capsys.readouterr().out
    assert not trained


def test_traceback_shows_where_an_error_came_from() -> None:
    with pytest.raises(ValueError, match="stepz"):
        cli.main(["train", "--traceback", "train.stepz=3"])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("bad"), 2),
        (FileNotFoundError("gone"), 2),
        (registry.SetupError("no GL"), 2),
        (registry.FaultError("all invalid"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_for_the_user_are_said_and_coded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int
) -> None:
    def fail(run: Any) -> None:
        raise error

    monkeypatch.setattr(commands, "function", lambda name: fail)
    assert cli.main(["train"]) == code
    assert str(error) in capsys.readouterr().err


def test_what_an_error_notes_is_said_but_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(run: Any) -> None:
        error = registry.FaultError("all invalid")
        error.add_note("in a worker process:\nTraceback")
        error.add_note("a checkpoint of step 3 is written")
        raise error

    monkeypatch.setattr(commands, "function", lambda name: fail)
    assert cli.main(["train"]) == 2
    said = capsys.readouterr().err
    assert said.endswith("vla-rl: error: all invalid\nvla-rl: a checkpoint of step 3 is written\n")


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(run: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(commands, "function", lambda name: fail)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["train"])


@pytest.mark.parametrize("arguments", [["trian"], ["list", "cats"], ["train", "--nope"], ["list", "envs", "x=1"], []])
def test_a_wrong_command_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == cli.USER_ERROR
    assert "error" in capsys.readouterr().err


def test_list_shows_every_registered_component_with_its_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == set(registry.GROUPS)
    for group, members in found.items():
        if group != "envs":
            assert [entry["name"] for entry in members] == list(registry.entries(group))
        assert all(entry["summary"] and not entry["error"] for entry in members)
    binned = next(entry for entry in found["action_spaces"] if entry["name"] == "binned")
    assert binned["parameters"][0] == {"name": "bins", "type": "int | tuple[int, ...]", "default": 11}


def test_list_shows_what_every_environment_observes_and_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "envs", "--json"]) == 0
    found = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)["envs"]}
    files = {file.stem for file in (ROOT / "configs" / "env").glob("[!_]*.yaml")}
    assert files <= set(found)
    several = {name for name, entry in found.items() if "tasks" in entry}
    assert several == {"table_top", "screens"}
    assert len(found["table_top"]["tasks"]) == 10
    single = [entry for name, entry in found.items() if name not in several]
    assert {entry["id"] for entry in single} >= set(registry.entries("envs")) - {registry.ADAPTER}
    for name in files - several:
        entry = found[name]
        assert entry["id"]
        assert entry["suite"]
        assert entry["sensors"]
        assert entry["actions"]
        assert isinstance(entry["installed"], bool)
    assert all(found[name]["installed"] for name in ("reach", "push"))
    assert found["reach"]["suite"] == "mujoco"
    assert (found["fetch_reach"]["id"], found["fetch_reach"]["suite"]) == ("FetchReach-v4", "robotics")
    assert found["fetch_reach"]["actions"] == ["x", "y", "z", "fingers"]
    assert found["fetch_reach"]["sensors"] == ["front", "side", "proprioception", "instruction"]


def test_environments_are_listed_as_hydra_composes_them(tmp_path: Path) -> None:
    (tmp_path / "_base.yaml").write_text(
        "sensors: [{type: camera, name: front}]\nkwargs: {a: 1, b: 2}\nadapter: null\n"
    )
    (tmp_path / "own.yaml").write_text("# Mine.\ndefaults: [_base, _self_]\nid: vla_rl/Reach-v0\nactions: [x, y, z]\n")
    (tmp_path / "lost.yaml").write_text("id: nobody/Knows-v0\nsensors: null\nkwargs: {}\n")
    found = {entry["name"]: entry for entry in catalog.describe_envs(tmp_path)}
    assert (found["own"]["summary"], found["own"]["sensors"], found["own"]["installed"]) == ("Mine.", ["front"], True)
    assert (found["lost"]["installed"], found["lost"]["error"]) == (False, "nobody/Knows-v0 is not registered")
    assert "vla_rl/Push-v0" in found
    assert "_base" not in found


def test_list_is_readable(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "action_spaces"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "action_spaces:"
    assert any(line.startswith("  choice  One of a Discrete space's alternatives, in one token") for line in lines)
    assert "      horizon: int" in lines
    assert "      camera: str" in lines


def test_list_goes_on_where_a_package_is_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken:
        name, value, attr = "broken", "no_such_package:Thing", "Thing"

        def load(self) -> Any:
            raise ModuleNotFoundError("No module named 'no_such_package'")

    real = registry.entries
    monkeypatch.setattr(registry, "entries", lambda group: {"broken": Broken(), **real(group)})
    assert cli.main(["list", "sensors"]) == 0
    out = capsys.readouterr().out
    assert "  broken  not available here" in out
    assert "  camera  " in out
