"""The config beside a stranger's checkpoint: what it may choose, and what only the command line does."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from vla_rl import config
from vla_rl.config import RunConfig
from vla_rl.registry import ConfigError

SECRET = "s3cret-of-the-environment"
PAGE = "data:text/html,<button>OK</button>"


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRANGERS_CANARY", SECRET)


@cache
def honest(*overrides: str) -> str:
    """A run's config, of the environment of pages unless another is chosen."""
    env = () if any(each.startswith("env=") for each in overrides) else ("env=page", f"env.kwargs.url='{PAGE}'")
    return config.load([*env, *overrides]).to_yaml()


def stranger(folder: Path, *overrides: str, **altered: Any) -> str:
    """What names a checkpoint whose run's config says this; `altered`: values by dotted key, `__` for `.`."""
    tree = OmegaConf.create(honest(*overrides))
    for key, value in altered.items():
        OmegaConf.update(tree, key.replace("__", "."), value, force_add=True)
    (folder / "checkpoints" / "000001" / "pretrained_model").mkdir(parents=True)
    OmegaConf.save(tree, folder / "config.yaml")
    return f"eval.checkpoint={folder}"


def load(*overrides: str) -> tuple[RunConfig, str]:
    """The run of `vla-rl eval`, and what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = config.load(overrides, command="eval")
    return run, " ".join(str(each.message) for each in caught)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("url", "http://192.0.2.1/steal"),
        ("url", "file:///etc/passwd"),
        ("url", " DATA:text/html,x"),
        ("file", "/etc/passwd"),
        ("online", True),
        ("setup", "fetch('http://192.0.2.1')"),
        ("nobody_declared_this", "../../secrets"),
        ("nobody_declared_this", {"deep": ["~/.ssh/id_rsa"]}),
    ],
)
def test_what_leads_out_is_left_out_and_told(tmp_path: Path, key: str, value: Any) -> None:
    run, told = load(stranger(tmp_path, **{f"env__kwargs__{key}": value}))
    assert key not in run.env.kwargs
    assert run.withheld == {f"env.kwargs.{key}": value}
    assert f"env.kwargs.{key}={str(value)!r}" in told


def test_in_each_of_several_environments(tmp_path: Path) -> None:
    own = stranger(tmp_path)
    tree: Any = OmegaConf.load(tmp_path / "config.yaml")
    tree.more_envs = [
        {**tree.env, "id": "vla_rl/MiniWoB-v0", "kwargs": {"name": "click-test-2", "path": "/etc/passwd"}}
    ]
    OmegaConf.save(tree, tmp_path / "config.yaml")
    run, _ = load(own)
    assert run.more_envs[0].kwargs == {"name": "click-test-2"}
    assert run.withheld == {"more_envs.0.kwargs.path": "/etc/passwd"}


def test_another_packages_environment_is_told_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("secret").touch()
    kwargs = {"xml_file": "/etc/passwd", "beside": "secret", "env_name": "door-open-v3", "frame_skip": 4}
    run, _ = load(stranger(tmp_path / "run", "env=reacher", env__kwargs=kwargs))
    assert run.env.kwargs == {"env_name": "door-open-v3", "frame_skip": 4}
    assert run.withheld == {"env.kwargs.xml_file": "/etc/passwd", "env.kwargs.beside": "secret"}


def test_what_the_command_line_says_is_given(tmp_path: Path) -> None:
    asks = stranger(tmp_path, env__kwargs__url="http://192.0.2.1/steal", env__kwargs__online=True)
    run, told = load(asks, "env.kwargs.url=http://localhost:3000")
    assert run.env.kwargs["url"] == "http://localhost:3000"
    assert run.withheld == {"env.kwargs.online": True}
    assert "steal" not in told
    assert load(asks, "env.kwargs={url: 'http://localhost', online: true}")[0].withheld == {}


def test_an_honest_run_is_evaluated_without_a_word(tmp_path: Path) -> None:
    run, told = load(stranger(tmp_path, "demos.path=/data/demos", "train.checkpoint=outputs/start"))
    assert run.env.kwargs["url"] == PAGE
    assert (run.withheld, told) == ({}, "")
    assert (run.train.checkpoint, run.demos.path) == (None, Path("outputs/demos/page"))


def test_ones_own_run_goes_on_with_all_of_it(tmp_path: Path) -> None:
    stranger(tmp_path, "demos.path=/data/demos", "env.kwargs.online=true")
    run = config.load(["resume=true", f"run_dir={tmp_path}"])
    assert run.env.kwargs["online"] is True
    assert run.demos.path == Path("/data/demos")


@pytest.mark.parametrize("way", ["eval", "resume"])
@pytest.mark.parametrize(
    "text",
    ["${oc.env:STRANGERS_CANARY}", "a ${oc.decode:'x'}", "${env.id}", "${${seed}:x}", r"\\${oc.env:STRANGERS_CANARY}"],
)
def test_a_saved_config_interpolates_nothing(tmp_path: Path, way: str, text: str) -> None:
    asks = stranger(tmp_path, env__kwargs__instruction=text)
    overrides = [asks] if way == "eval" else ["resume=true", f"run_dir={tmp_path}"]
    with pytest.raises(ConfigError, match="holds an interpolation") as refused:
        config.load(overrides, command="eval" if way == "eval" else "train")
    assert SECRET not in str(refused.value)


def test_a_text_with_these_signs_comes_back_as_it_was(tmp_path: Path) -> None:
    run, _ = load(stranger(tmp_path, r"env.kwargs.instruction='pay \${five}'"))
    assert run.env.kwargs["instruction"] == "pay ${five}"


@pytest.mark.parametrize("name", ["../../../../tmp/evil", "..", "a\x1b[2J", "x" * 200])
def test_a_name_that_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    asks = stranger(tmp_path, "env=reacher", env__adapter__name=name)
    with pytest.raises(ConfigError, match="names no folder") as refused:
        config.load([asks], command="eval")
    assert "\x1b" not in str(refused.value)
