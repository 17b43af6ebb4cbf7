"""Names become components, and components names again; nothing is imported that the user did not list."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from vla_rl import registry
from vla_rl.actions import Binned, Chunk
from vla_rl.registry import ConfigError

CANARY = """
from pathlib import Path
Path(__file__).with_suffix(".canary").touch()
"""
PLUGIN = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Dial:
    step: float
    names: tuple[str, ...] = ("a",)

    def __post_init__(self):
        if self.step <= 0:
            raise ValueError(f"step must be positive, got {self.step}")

def not_a_class():
    raise RuntimeError
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module of the user's that can be imported, and tells by a file when it was."""
    file = tmp_path / "my_dials.py"
    file.write_text(CANARY + PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    yield file
    sys.modules.pop("my_dials", None)


def refusal(group: str, config: Any, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        registry.build(group, config, **options)
    return str(caught.value)


def test_a_name_or_a_mapping_becomes_a_component() -> None:
    assert registry.build("action_spaces", "binned") == Binned()
    assert registry.build("action_spaces", {"type": "binned", "bins": [3, 4]}) == Binned((3, 4))
    assert registry.build("action_spaces", Binned(5)) == Binned(5)


def test_components_nest() -> None:
    config = {"type": "chunk", "horizon": 2, "inner": {"type": "binned", "bins": 5}}
    assert registry.build("action_spaces", config) == Chunk(Binned(5), 2)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"type": "bined"}, "action_spaces.type: unknown name 'bined' among action_spaces; did you mean 'binned'?"),
        ({"type": "binned", "bin": 3}, "action_spaces.bin: unknown key; did you mean 'bins'?"),
        ({"type": "binned", "bins": "1e1"}, "action_spaces.bins: a number is needed, and '1e1' is text; write 10"),
        ({"type": "binned", "bins": 11.0}, "action_spaces.bins: a whole number is needed; write 11"),
        ({"type": "binned", "bins": True}, "action_spaces.bins: Input should be a valid integer"),
        ({"type": "binned", "bins": 1}, "action_spaces: bins: at least 2"),
        ({"type": "binned", None: 1}, "action_spaces.None: unknown key"),
        ({"type": "chunk", "horizon": 2}, "action_spaces.inner: missing; Chunk needs it"),
        ({"type": "chunk", "horizon": 2, "inner": "binned"}, "action_spaces.inner: a component is needed"),
        ({"type": "chunk", "horizon": 2, "inner": {"type": "x"}}, "action_spaces.inner.type: unknown name 'x'"),
        (
            {"type": "variant", "parts": [{"type": "choice"}, {"type": "binned", "bims": 3}]},
            "action_spaces.parts[1].bims",
        ),
        ({"bins": 3}, "action_spaces: lacks the key 'type', one of binned, characters"),
        ({"type": None}, "action_spaces.type: expected a name among action_spaces, got None"),
        ({"type": ""}, "action_spaces.type: expected a name"),
        (3, "action_spaces: expected a name or a mapping with `type`, got 3"),
    ],
)
def test_a_wrong_config_is_refused_with_its_path_and_what_to_write(config: Any, message: str) -> None:
    assert refusal("action_spaces", config).startswith(message)


@pytest.mark.parametrize("name", ["my_dials:Dial", "os:system", "my_dials.deep:Dial", ":Dial"])
def test_a_module_that_is_not_listed_is_refused_before_its_import(plugin: Path, name: str) -> None:
    said = refusal("sensors", {"type": name}, plugins=["other", "my", ""])
    assert "which the run's `plugins` do not list (listed: other, my, )" in said
    assert not plugin.with_suffix(".canary").exists()


def test_a_listed_modules_class_is_built_and_checked(plugin: Path) -> None:
    dial = registry.build("sensors", {"type": "my_dials:Dial", "step": 2}, plugins=["my_dials"], path="env.sensors[0]")
    assert (dial.step, dial.names) == (2.0, ("a",))
    assert plugin.with_suffix(".canary").exists()
    said = refusal("sensors", {"type": "my_dials:Dial", "step": -1}, plugins=["my_dials"], path="env.sensors[0]")
    assert said == "env.sensors[0]: step must be positive, got -1.0"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my_dials:not_a_class", "is not a dataclass"),
        ("my_dials:Path", "is not a dataclass"),
        ("my_dials:Path.home", "has no 'Path.home'"),
        ("my_dials:Dail", "has no 'Dail'; did you mean 'Dial'?"),
    ],
)
def test_only_a_components_class_is_built(plugin: Path, name: str, said: str) -> None:
    assert said in refusal("sensors", {"type": name}, plugins=["my_dials"])


def test_a_listed_package_lists_the_modules_inside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "inner.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    config = {"type": "my_package.inner:Dial", "step": 1}
    assert registry.build("sensors", config, plugins=["my_package"]).step == 1.0


def test_a_listed_module_that_is_not_there_says_so() -> None:
    said = refusal("sensors", {"type": "no_such_module:Dial"}, plugins=["no_such_module"])
    assert said.startswith("sensors.type: cannot import 'no_such_module'")


def test_description_and_building_are_inverse(plugin: Path) -> None:
    described = registry.describe(Chunk(Binned((3, 5)), 2), "action_spaces")
    assert described["type"] == "chunk"
    assert described["inner"]["type"] == "binned"
    assert registry.build("action_spaces", described) == Chunk(Binned((3, 5)), 2)
    dial = registry.build("sensors", {"type": "my_dials:Dial", "step": 1}, plugins=["my_dials"])
    assert registry.describe(dial, "sensors") == {"type": "my_dials:Dial", "step": 1.0, "names": ["a"]}


def test_every_registered_name_can_be_built_or_says_what_it_needs() -> None:
    for group in registry.GROUPS:
        assert registry.entries(group), group
        for name in registry.entries(group):
            component = registry.resolve(group, name)
            assert registry.name_of(component, group) == name
            assert isinstance(registry.parameters(component), Mapping)


def test_the_hint_names_the_nearest_or_everything() -> None:
    assert registry.nearest("puhs", ["push", "reach"]) == "did you mean 'push'?"
    assert registry.nearest("zzz", ["push", "reach"]) == "known: push, reach"
    assert registry.nearest("zzz", []) == "known: none"


def test_what_is_heavy_is_named_and_imported_when_it_is_asked_for() -> None:
    assert registry.named("vla_rl.registry:ConfigError") is ConfigError
