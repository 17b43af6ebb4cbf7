"""YAML files that somebody sent: of bounded size, reading nothing but themselves, listing no module."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from vla_rl import config
from vla_rl.registry import ConfigError

SECRET = "s3cret-of-the-environment"


def own_file(folder: Path, content: str, name: str = "experiment/mine.yaml") -> Path:
    """The `--config-dir` that holds one file."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(content))
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(ConfigError) as refused:
        config.load(["experiment=mine"], config_dir=folder)
    message = str(refused.value)
    assert len(message) < 2_000
    return message


@pytest.mark.parametrize(
    "text", ["${oc.env:STRANGERS_CANARY}", "${hydra:runtime.cwd}", "${${seed}:x}", "${a.${oc.env:X}}"]
)
def test_a_file_asks_no_resolver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("STRANGERS_CANARY", SECRET)
    folder = own_file(tmp_path, f"# @package _global_\ndemos:\n  path: '{text}'\n")
    message = refusal(folder)
    assert "mine.yaml: demos.path: " in message
    assert "only the command line may" in message
    assert SECRET not in message
    assert config.load(["demos.path='${oc.env:STRANGERS_CANARY}'"]).demos.path == Path(SECRET)


def test_a_file_refers_to_other_keys(tmp_path: Path) -> None:
    folder = own_file(tmp_path, "# @package _global_\nseed: 7\ntrain:\n  steps: ${seed}\n")
    assert config.load(["experiment=mine"], config_dir=folder).train.steps == 7


def test_a_file_lists_no_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = tmp_path / "canary"
    (tmp_path / "evil.py").write_text(f"open({str(canary)!r}, 'w').close()")
    monkeypatch.syspath_prepend(tmp_path)
    folder = own_file(tmp_path / "own", "# @package _global_\nplugins: [evil]\n")
    assert "needs the modules ['evil']; give plugins=[evil]" in refusal(folder)
    assert not canary.exists()
    assert config.load(["experiment=mine", "plugins=[evil]"], config_dir=folder).plugins == ["evil"]


@pytest.mark.parametrize("way", ["a link", "the defaults"])
def test_a_file_leads_to_none_outside_its_folder(tmp_path: Path, way: str) -> None:
    (tmp_path / "secret.yaml").write_text(f"# @package _global_\ndemos:\n  path: {SECRET}\n")
    folder = own_file(tmp_path / "own", "# @package _global_\ndefaults: [/env/../../secret]\n")
    if way == "a link":
        (folder / "experiment" / "mine.yaml").unlink()
        (folder / "experiment" / "mine.yaml").symlink_to(tmp_path / "secret.yaml")
    message = refusal(folder)
    assert "leads out of" in message
    assert SECRET not in message


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (BOMB, "its aliases written out"),
        ("a: &a [*a]\n", "lies in what it stands for"),
        ("a: " + "[" * 500 + "]" * 500, "nested deeper"),
        ("a: " + "x" * (1 << 20), "no config is so long"),
        ("a: [" + "1, " * 50_000 + "1]\n", "more than 32768 values"),
    ],
)
@pytest.mark.parametrize("where", ["config dir", "saved"])
def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path, content: str, why: str, where: str) -> None:
    if where == "config dir":
        message = refusal(own_file(tmp_path, content))
    else:
        (tmp_path / "config.yaml").write_text(content)
        with pytest.raises(ConfigError) as refused:
            config.load(["resume=true", f"run_dir={tmp_path}"])
        message = str(refused.value)
    assert why in message


def test_twenty_thousand_overrides_are_too_many() -> None:
    with pytest.raises(ConfigError, match="20000 overrides"):
        config.load([f"env.kwargs.a{i}=1" for i in range(20_000)])


def test_a_long_override_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"env\.kwargs\.instruction: 1000000 characters") as refused:
        config.load(["env.kwargs.instruction=" + "x" * 1_000_000])
    assert len(str(refused.value)) < 500
