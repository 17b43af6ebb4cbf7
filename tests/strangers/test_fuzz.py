"""Damage at random: each is refused in a screen of text, passed over for an older checkpoint, or loads the same."""

from __future__ import annotations

import json
import resource
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.strangers.test_datasets import SHAPE, episode
from vla_rl import config, registry
from vla_rl.actions.binned import Binned
from vla_rl.config.policy import PolicySettings
from vla_rl.data import demos
from vla_rl.data.demos import Demonstrations
from vla_rl.models.policy import Policy
from vla_rl.models.settings import Pretrained
from vla_rl.rollout.actor import load_actor
from vla_rl.runtime import checkpoint
from vla_rl.runtime.generations import DamagedError

SCREEN, SECONDS, BYTES = 4_000, 5.0, 1 << 30
ONCE: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}


def brief(error: Exception) -> str:
    """Holds a refusal to a screen."""
    assert len(str(error)) < SCREEN, str(error)[:SCREEN]
    return "refused"


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """A bit flipped, the file cut, or a region of it zeroed, doubled or made of noise."""
    at, size = int(rng.integers(len(content))), int(rng.integers(1, 200))
    kind = rng.integers(5)
    if kind == 0:
        return content[:at] + bytes([content[at] ^ 1 << int(rng.integers(8))]) + content[at + 1 :]
    if kind == 1:
        return content[:at]
    region = content[at : at + size]
    other = (bytes(len(region)), region * 2, rng.bytes(len(region)))[kind - 2]
    return content[:at] + other + content[at + size :]


@pytest.fixture(scope="module")
def run(random_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with two generations of a policy and some state."""
    folder = tmp_path_factory.mktemp("run")
    space = Binned(bins=(3, 3), low=(-1.0, -1.0), high=(1.0, 1.0), shape=(2,), dtype="float32")
    for step in (1, 2):
        policy = Policy.build(PolicySettings(Pretrained(str(random_backbone))), space, ["front"], 3, seed=step)
        state = {"step": step, "tensors": [torch.full((3,), step)], "episodes": 4}

        def save_state(place: Path, state: dict[str, Any] = state) -> None:
            checkpoint.save_state(place, state)

        checkpoint.save(folder, step, {"pretrained_model": policy.save_pretrained, "other": save_state})
    return folder


def spoil(folder: Path, rng: np.random.Generator) -> Callable[[], object]:
    """Damage a file of a folder; gives what mends it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    file = files[int(rng.integers(len(files)))]
    content = file.read_bytes()
    spoilt = damage(content, rng)
    file.unlink()  # a generation's files may be links to one another's
    file.write_bytes(spoilt)
    return lambda: file.write_bytes(content)


def spoilt_once(run: Path, alone: Path, seed: int) -> str:
    """One random damage of a checkpoint, or of a policy that stands alone; what became of it."""
    rng = np.random.default_rng(seed)
    generation = run / "checkpoints" / "000002"
    target = alone if seed % 2 else generation
    mend = spoil(target, rng)
    began = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = load_actor(target, device="cpu").policy
        outcome = "the same" if same(whole, run) else "another"
    except ValueError as error:
        outcome = brief(error)
    finally:
        mend()
    assert time.process_time() - began < SECONDS
    return outcome


def same(policy: Policy, run: Path) -> bool:
    """Whether a policy is that of the newest generation, weight for weight."""
    own = Policy.from_pretrained(run / "checkpoints" / "000002" / "pretrained_model", verify=False).state_dict()
    return all(torch.equal(value, own[name]) for name, value in policy.state_dict().items())


def spoil_many(run: Path, folder: Path, seeds: range) -> dict[str, int]:
    """How often each outcome came of one damage a seed. None may take more memory than BYTES."""
    alone = shutil.copytree(run / "checkpoints" / "000002" / "pretrained_model", folder / "alone")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = [spoilt_once(run, alone, seed) for seed in seeds]
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < BYTES
    return {outcome: outcomes.count(outcome) for outcome in set(outcomes)}


def test_random_damages_of_a_checkpoint_are_refused(run: Path, tmp_path: Path) -> None:
    found = spoil_many(run, tmp_path, range(40))
    assert "another" not in found, found
    assert found["refused"] > 30, found


@pytest.mark.slow
def test_two_thousand_damages_of_a_checkpoint_are_refused(run: Path, tmp_path: Path) -> None:
    found = spoil_many(run, tmp_path, range(1_000, 3_000))
    assert "another" not in found, found
    assert sum(found.values()) == 2_000, found


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(run: Path) -> None:
    for seed in range(10):
        mend = spoil(run / "checkpoints" / "000002", np.random.default_rng(seed))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            whole = checkpoint.latest(run)
        mend()
        assert whole is not None
        if whole.step == 1:
            assert "going back to the checkpoint of step 1" in str(caught[0].message)
        else:
            assert not caught


def test_a_verified_checkpoint_says_what_it_is(run: Path) -> None:
    checkpoint.verify(run / "checkpoints" / "000002")
    with pytest.raises(DamagedError):
        checkpoint.verify(run / "checkpoints")


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, **ONCE)
def test_random_damages_of_demonstrations_are_refused(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    folder = tmp_path_factory.mktemp("demos") / "own"
    demos.save(Demonstrations((episode(), episode()), SHAPE, {"env": "x"}), folder)
    spoil(folder, np.random.default_rng(seed))
    try:
        demos.load(folder, SHAPE)
    except demos.DemonstrationError as error:
        brief(error)


def test_a_refusal_does_not_hold_the_file(tmp_path: Path) -> None:
    demos.save(Demonstrations((episode(),), SHAPE, {"env": "x"}), tmp_path / "own")
    (file,) = (tmp_path / "own").glob("*.npz")
    content = bytearray(file.read_bytes())
    content[26:28] = b"\xff\x0f"  # how long the first entry's name is, which is told
    file.write_bytes(content)
    with pytest.raises(demos.DemonstrationError, match="damaged or incomplete") as refused:
        demos.load(tmp_path / "own", SHAPE)
    assert len(str(refused.value)) < 1_000


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
def test_a_policys_config_of_any_values_is_refused_or_loads(run: Path, data: st.DataObject) -> None:
    """One value of it becomes any other."""
    folder = run / "checkpoints" / "000002" / "pretrained_model"
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


HONEST = config.load(["env=reach"]).model_dump(mode="json")


@given(st.data())
@settings(max_examples=60, **ONCE)
def test_a_config_of_any_values_is_refused_or_valid(data: st.DataObject) -> None:
    content = json.loads(json.dumps(HONEST))
    *parents, key = data.draw(st.sampled_from(list(leaves(content))))
    holder = content
    for parent in parents:
        holder = holder[parent]
    holder[key] = data.draw(JSON)
    try:
        config.loading.validate(content)
    except registry.ConfigError as error:
        brief(error)


@given(st.text(max_size=60))
@settings(max_examples=100, **ONCE)
def test_an_override_of_any_text_is_refused_or_valid(text: str) -> None:
    try:
        config.compose.split([text], None)
    except registry.ConfigError as error:
        brief(error)


SPACE = Binned(bins=(3, 5), low=(-1.0, -1.0), high=(1.0, 1.0), shape=(2,), dtype="float32")


@given(st.lists(st.integers(-(2**62), 2**62) | st.floats(), max_size=4))
def test_action_tokens_of_any_numbers_are_refused_or_mean_an_action(tokens: list[Any]) -> None:
    try:
        action = SPACE.decode(np.asarray(tokens))
    except ValueError:
        return
    assert action.shape == (2,)
    assert (abs(action) <= 1).all()
