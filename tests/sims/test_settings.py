"""What a config says of an environment reaches what it was said of: no setting hides another of its name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import pytest

import sims  # noqa: F401  (registers the environments)
from sims.adapters.env import AdaptedEnv
from sims.adapters.settings import Adapter
from sims.gui.env import GuiEnv
from sims.gui.tasks.click_label import ClickLabel
from sims.mujoco.env import TableTop
from sims.mujoco.tasks.reach import Reach
from sims.register import PAGES, SCREENS, TABLE_TOP
from sims.screen.interaction import Interaction
from sims.web.env import PageEnv
from vla_rl import envs, registry
from vla_rl.registry import ConfigError

PAGE_TASKS = sorted({settings["task"] for settings in PAGES.values()})


@dataclass(frozen=True)
class Long(ClickLabel):
    """Has a field with the name of what a hand can be told."""

    length: int = 3


@dataclass(frozen=True)
class Split(Reach):
    """Has a field with the name of what the table can be told."""

    split: str = "mine"


class Slow(GuiEnv):
    """A screen with a keyword of its own, which a task of it has, too."""

    def __init__(self, task: Any, steps: int = 1, **more: Any) -> None:
        super().__init__(task, **more)


def names(made_by: Callable[..., Any], *components: type) -> set[str]:
    """What an environment itself may be told."""
    arguments = made_by.__code__.co_varnames[: made_by.__code__.co_argcount + made_by.__code__.co_kwonlyargcount]
    return set(arguments) | {field for each in components for field in registry.parameters(each)}


@pytest.mark.parametrize("env_id", [*TABLE_TOP, *SCREENS, *PAGE_TASKS])
def test_no_setting_of_an_environment_hides_one_of_its_task(env_id: str) -> None:
    own = names(TableTop.__init__) if env_id in TABLE_TOP else names(GuiEnv.__init__, Interaction)
    own = names(PageEnv.__init__, Interaction) if env_id in PAGE_TASKS else own
    task = registry.resolve("envs", TABLE_TOP.get(env_id, {"task": env_id})["task"])
    assert not own & registry.parameters(task).keys()


def test_no_setting_of_the_adapter_is_hidden() -> None:
    assert not names(AdaptedEnv.__init__) & registry.parameters(Adapter).keys()


@pytest.mark.parametrize("group", registry.GROUPS)
def test_no_component_has_a_field_that_the_registry_takes(group: str) -> None:
    for name in registry.entries(group):
        assert "type" not in registry.parameters(registry.resolve(group, name)), name


@pytest.mark.parametrize("env_id", [*TABLE_TOP, *SCREENS])
def test_every_number_that_a_config_gives_a_task_reaches_it(env_id: str) -> None:
    usual = gymnasium.make(env_id, sensors=["instruction"]).unwrapped.task  # type: ignore[attr-defined]
    wanted = {field.name: _other(field, getattr(usual, field.name)) for field in dataclasses.fields(usual)}
    for name, value in wanted.items():
        if value is None:
            continue
        try:
            expected = replace(usual, **{name: value})
        except ValueError:  # does not go with the other fields
            continue
        made = gymnasium.make(env_id, sensors=["instruction"], **{name: value}).unwrapped
        assert made.task == expected, name  # type: ignore[attr-defined]


def _other(field: dataclasses.Field, value: Any) -> Any:
    """Another whole number in the field's range; None for other fields."""
    if not field.init or type(value) is not int:
        return None
    low, high = field.metadata.get("range", (0, value + 1))
    return value + 1 if value < high else value - 1 if value > low else None


def test_a_chain_has_as_many_steps_as_it_is_told() -> None:
    env = gymnasium.make("vla_rl/GuiChain-v0", sensors=["instruction"], steps=7).unwrapped
    env.reset(seed=0)
    assert len(env.goal.facts["steps"]) == 7  # type: ignore[attr-defined]


@pytest.mark.parametrize(("env_id", "task"), [("vla_rl/Gui-v0", Long), ("vla_rl/TableTop-v0", Split)])
def test_an_own_task_whose_field_would_be_hidden_is_refused_by_name(env_id: str, task: type) -> None:
    field = next(iter(task.__annotations__))
    with pytest.raises(ConfigError, match=f"its field '{field}' has the name of a setting of the environment"):
        gymnasium.make(env_id, task=f"{__name__}:{task.__name__}", plugins=[__name__])


def test_a_keyword_of_a_subclass_hides_no_field_of_a_task() -> None:
    Slow("vla_rl/GuiClickLabel-v0", steps=3)
    with pytest.raises(ConfigError, match="its field 'steps' has the name of a setting of the environment"):
        Slow("vla_rl/GuiChain-v0", steps=3)


def test_sensors_among_the_kwargs_are_refused_where_the_config_has_a_place_for_them() -> None:
    with pytest.raises(ConfigError, match=r"env\.kwargs\.sensors: env\.sensors says that"):
        envs.make_env("vla_rl/Reach-v0", sensors=["instruction"], kwargs={"sensors": ["camera"]})
