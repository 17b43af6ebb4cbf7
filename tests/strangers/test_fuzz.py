"""Configs, overrides, actions, tokens and datasets of any content: refused in a screen of text, or valid."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from tests.actions.action_strategies import NESTED, anything
from tests.strangers.damage import SCREEN
from tests.strangers.test_datasets import SHAPE, episode
from tests.unsealed import unsealed
from vla_rl import config, registry
from vla_rl.actions import Binned
from vla_rl.actions.tokens import allowed
from vla_rl.config.policy import PolicySettings
from vla_rl.data import demos, lerobot
from vla_rl.data.demos import DemonstrationError, Demonstrations
from vla_rl.models.policy import Policy
from vla_rl.models.settings import Pretrained
from vla_rl.runtime import checkpoint
from vla_rl.runtime.generations import DamagedError

ONCE: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}
NAMES = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
"""Unicode, but for halves of pairs."""


def brief(error: Exception, naming: str = "") -> None:
    """Holds a refusal to a screen, and to a name."""
    assert len(str(error)) < SCREEN, str(error)[:SCREEN]
    assert naming in str(error)


# A policy's config ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generation(random_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of nothing but a policy."""
    space = Binned(bins=(3, 3), low=(-1.0, -1.0), high=(1.0, 1.0), shape=(2,), dtype="float32")
    policy = Policy.build(PolicySettings(Pretrained(str(random_backbone))), space, ["front"], 3, seed=0)
    return checkpoint.save(tmp_path_factory.mktemp("run"), 1, {"pretrained_model": policy.save_pretrained})


def test_a_verified_checkpoint_says_what_it_is(generation: Path) -> None:
    checkpoint.verify(generation)
    with pytest.raises(DamagedError):
        checkpoint.verify(generation.parent)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything within a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from leaves(item, (*path, key))


@given(st.data())
@settings(max_examples=12, phases=[Phase.generate], **ONCE)
def test_a_policys_config_of_any_values_is_refused_or_loads(generation: Path, data: st.DataObject) -> None:
    """One value of it becomes any other."""
    folder = generation / "pretrained_model"
    file = folder / data.draw(st.sampled_from(["config.json", "backbone/config.json"]))
    before = file.read_text()
    content = json.loads(before)
    *parents, key = data.draw(st.sampled_from(list(leaves(content))))
    holder = content
    for parent in parents:
        holder = holder[parent]
    holder[key] = data.draw(JSON)
    file.unlink()
    file.write_text(json.dumps(content))
    try:
        Policy.from_pretrained(folder, verify=False)
    except ValueError as error:
        brief(error)
    finally:
        file.write_text(before)


# A run's config -------------------------------------------------------------------------------------------

HONEST = config.load(["env=reach"]).model_dump(mode="json")
WRONG: dict[str, Any] = {
    "none": None,
    "a truth": True,
    "negative": -1,
    "huge": 10**18,
    "beyond floats": 10**400,
    "NaN": float("nan"),
    "infinite": float("inf"),
    "a text": "x",
    "of any script": "\N{ROBOT FACE} ضع \u202e\0\x1b[2J",
    "half a pair": "\ud83d",
    "long": "x" * 100_000,
    "a path": "/etc/passwd",
    "a list": [[[[]]]],
    "a deep one": {"type": {"type": {"type": {"type": "x"}}}},
    "a component": {"type": "os:system", "command": "true"},
}


def with_value(path: Sequence[Any], value: Any) -> dict[str, Any]:
    """The honest config, with another value somewhere."""
    content = json.loads(json.dumps(HONEST))
    holder = content
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return content


def validated(content: dict[str, Any]) -> None:
    try:
        config.loading.validate(content)
    except registry.ConfigError as error:
        brief(error)


@given(st.sampled_from(list(leaves(HONEST))), JSON)
@settings(max_examples=60, **ONCE)
def test_a_config_of_any_values_is_refused_or_valid(path: Sequence[Any], value: Any) -> None:
    validated(with_value(path, value))


@pytest.mark.faults
@pytest.mark.parametrize("wrong", WRONG)
def test_every_key_of_a_config_refuses_or_takes_what_it_is_given(wrong: str) -> None:
    for path in leaves(HONEST):
        validated(with_value(path, WRONG[wrong]))


def overridden(*overrides: str) -> None:
    """Loads a config; a refusal of it is brief."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config.load(["env=reach", *overrides])
    except registry.ConfigError as error:
        brief(error)


@given(st.text(max_size=60))
@settings(max_examples=100, **ONCE)
def test_an_override_of_any_text_is_refused_or_valid(text: str) -> None:
    try:
        config.compose.split([text], None)
    except registry.ConfigError as error:
        brief(error)


OVERRIDDEN = [
    "null", "-1", "1e400", "nan", "[1,[2,[3]]]", "{a: {b: c}}", "{type: os:system}", "${oc.env:HOME}", "'", "[", "{",
    "$", "\N{ROBOT FACE}", "ضع", "a,b", "1..2", "interval(0, 1)", "range(10000000)", "glob(*)", "~", "x" * 3000, "",
    "!!python/name:os.system", "&a [*a, *a]",
]  # fmt: skip
SIGNS = st.sampled_from(["", "+", "++", "~"])


@given(st.sampled_from(list(leaves(HONEST))), st.sampled_from(OVERRIDDEN) | NAMES, SIGNS)
@settings(max_examples=15, **ONCE)
def test_an_override_of_any_key_and_value_is_refused_or_valid(path: Sequence[Any], value: str, before: str) -> None:
    overridden(f"{before}{'.'.join(map(str, path))}={value}")


@pytest.mark.faults
@pytest.mark.parametrize("value", OVERRIDDEN, ids=range(len(OVERRIDDEN)))
def test_every_key_refuses_or_takes_an_override(value: str) -> None:
    keys = [".".join(map(str, path)) for path in leaves(HONEST) if all(isinstance(key, str) for key in path)]
    for key in keys[:: max(len(keys) // 20, 1)]:
        overridden(f"{key}={value}")


# Tokens and actions ---------------------------------------------------------------------------------------

NUMBERS = st.integers(-(2**70), 2**70) | st.floats() | st.booleans()
ARRAYS = st.builds(
    lambda shape, dtype, fill: np.full(shape, fill).astype(dtype),
    st.lists(st.integers(0, 4), max_size=3).map(tuple),
    st.sampled_from(["int8", "uint8", "int64", "uint64", "float32", "float64", "bool", "object", "U3"]),
    st.sampled_from([0, 1, -1, 100]),
)
ANYTHING = st.recursive(
    st.none() | NUMBERS | NAMES | ARRAYS,
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


@given(anything(), st.lists(NUMBERS, max_size=12) | ARRAYS)
@settings(max_examples=150, **ONCE)
def test_tokens_of_any_numbers_are_refused_or_mean_an_action(case: Any, tokens: Any) -> None:
    unbound, space, steps = case
    bound = unbound.bind(space)
    try:
        action = bound.decode(np.asarray(tokens))
    except ValueError as error:
        brief(error)
        return
    assert all(space.contains(each) for each in (action if steps > 1 else (action,)))
    assert bound.encode(action).tolist() == np.asarray(tokens).tolist()


@given(NESTED, ANYTHING)
@settings(max_examples=150, **ONCE)
def test_any_action_is_refused_or_has_tokens(case: Any, action: Any) -> None:
    unbound, space = case
    bound = unbound.bind(space)
    try:
        tokens = bound.encode(action)
    except ValueError as error:
        brief(error)
        return
    assert tokens.dtype == np.int64
    assert allowed(bound, tokens)


# Demonstrations and datasets ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Demonstrations and a LeRobotDataset, without the digests that would tell any change at once."""
    folder = tmp_path_factory.mktemp("recorded")
    own = Demonstrations((episode(3), episode(5)), SHAPE, {"env": "x"})
    demos.save(own, folder / "own")
    lerobot.write_demonstrations(own.episodes, folder / "dataset")
    return unsealed(folder / "own"), unsealed(folder / "dataset")


DTYPES = ["int8", "uint8", "int64", "float16", "float32", "float64", "bool", "U3", "complex64"]


def changed(array: np.ndarray, data: st.DataObject) -> np.ndarray:
    """Of another dtype, length or shape, or with numbers that are none."""
    how = data.draw(st.sampled_from(["dtype", "shorter", "longer", "flat", "deeper", "filled"]))
    if how == "dtype":
        return array.astype(data.draw(st.sampled_from(DTYPES)))
    if how == "filled":
        return np.full(array.shape, data.draw(st.sampled_from([np.nan, np.inf, -np.inf, 1e30, -1])), float)
    return {
        "shorter": array[:-1],
        "longer": np.concatenate([array, array]),
        "flat": array.reshape(-1),
        "deeper": array[None],
    }[how]


@given(st.data())
@settings(max_examples=60, **ONCE)
def test_demonstrations_with_other_columns_are_refused_or_the_same(
    recorded: tuple[Path, Path], data: st.DataObject
) -> None:
    file = recorded[0] / "episode_000001.npz"
    before = file.read_bytes()
    with np.load(file) as archive:
        arrays = dict(archive)
    key = data.draw(st.sampled_from(sorted(arrays)))
    if data.draw(st.booleans()):
        arrays[key] = changed(arrays[key], data)
    else:
        del arrays[key]
    try:
        np.savez(file, **arrays)
        found = demos.load(recorded[0], SHAPE)
    except DemonstrationError as error:
        brief(error, file.name)
    else:
        assert len(found.episodes[1]) == 5
        assert found.episodes[1].action.dtype == np.float32
    finally:
        file.write_bytes(before)


COLUMN_TYPES = [pyarrow.string(), pyarrow.int8(), pyarrow.float64(), pyarrow.bool_(), pyarrow.binary(), pyarrow.null()]


@given(st.data())
@settings(max_examples=60, **ONCE)
def test_a_dataset_with_other_columns_is_refused_or_of_the_same_shapes(
    recorded: tuple[Path, Path], data: st.DataObject
) -> None:
    folder = recorded[1]
    file = data.draw(st.sampled_from(sorted(folder.rglob("*.parquet"))))
    before, table = file.read_bytes(), parquet.read_table(file)
    key = data.draw(st.sampled_from(table.column_names))
    at, how = table.column_names.index(key), data.draw(st.sampled_from(["gone", "type", "nulls", "nested", "rows"]))
    count = table.num_rows
    if how == "gone":
        table = table.remove_column(at)
    elif how == "rows":
        table = table.slice(0, data.draw(st.integers(0, count - 1)))
    elif how == "nested":
        table = table.set_column(at, key, pyarrow.array([[[1, 2], [3]]] * count))
    else:
        kind = data.draw(st.sampled_from(COLUMN_TYPES))
        values = {"string": "x", "binary": b"x", "bool": True, "null": None}.get(str(kind), 1)
        table = table.set_column(at, key, pyarrow.array([None if how == "nulls" else values] * count, kind))
    parquet.write_table(table, file)
    try:
        found = lerobot.load(folder)
    except DemonstrationError as error:
        brief(error, str(folder))
    else:
        assert all(len(each.action) == len(each.reward) == len(each.tasks) - 1 for each in found)
    finally:
        file.write_bytes(before)


def test_a_refusal_does_not_hold_the_file(tmp_path: Path) -> None:
    demos.save(Demonstrations((episode(),), SHAPE, {"env": "x"}), tmp_path / "own")
    (file,) = unsealed(tmp_path / "own").glob("*.npz")
    content = bytearray(file.read_bytes())
    content[26:28] = b"\xff\x0f"  # how long the first entry's name is, which is told
    file.write_bytes(content)
    with pytest.raises(demos.DemonstrationError, match="damaged or incomplete") as refused:
        demos.load(tmp_path / "own", SHAPE)
    assert len(str(refused.value)) < 1_000
