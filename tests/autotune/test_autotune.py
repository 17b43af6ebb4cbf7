"""How a frozen backbone computes is chosen by what was measured, and cached features by theirs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vla_rl.actions import Binned
from vla_rl.algorithms.needs import Needs
from vla_rl.autotune import backbone, feature_cache
from vla_rl.config.policy import PolicySettings
from vla_rl.envs import ObservationShape
from vla_rl.models.policy import Policy
from vla_rl.models.settings import Pretrained
from vla_rl.registry import ConfigError

SHAPE = ObservationShape(images={"observation.images.front": (64, 64, 3)}, state=2)


@pytest.fixture
def policy(random_backbone: Path) -> Policy:
    from gymnasium import spaces

    space = Binned(5).bind(spaces.Box(-1, 1, (2,)))
    return Policy.build(PolicySettings(Pretrained(str(random_backbone))), space, ["front"], 2, seed=0).eval()


def tuned(policy: Policy, precision: str = "auto", compiling: str = "never") -> tuple[str, torch.dtype]:
    seen = feature_cache.any_observation(policy, SHAPE, 2)
    return backbone.tune(policy, precision, compiling, seen), policy.trunk.backbone.model.dtype


def test_a_small_backbone_is_left_as_it_is(policy: Policy) -> None:
    before = policy.digest()
    said, dtype = tuned(policy, compiling="auto")
    assert dtype == torch.float32
    assert "too few" in said
    assert policy.digest() == before


@pytest.mark.parametrize(("times", "close", "dtype"), [
    ([3.0, 1.0], 2.0, torch.bfloat16),
    ([1.0, 1.0], 2.0, torch.float32),
    ([3.0, 1.0], -1.0, torch.float32),
])  # fmt: skip
def test_half_precision_has_to_be_faster_and_to_point_to_the_same_places(
    policy: Policy, times: list[float], close: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = policy.digest()
    monkeypatch.setattr(backbone, "SMALL", 0)
    monkeypatch.setattr(backbone, "CLOSE", close)
    monkeypatch.setattr(backbone, "_time", lambda policy, seen: times.pop(0))
    said, found = tuned(policy)
    assert found == dtype
    assert "times as fast" in said
    assert (policy.digest() == before) == (dtype == torch.float32)


def test_a_precision_that_is_asked_for_is_taken(policy: Policy) -> None:
    assert tuned(policy, "bfloat16") == ("backbone: bfloat16, not compiled", torch.bfloat16)


@pytest.mark.slow
def test_what_is_compiled_decides_as_before(policy: Policy) -> None:
    seen = feature_cache.any_observation(policy, SHAPE, 2)
    before = policy.logits(policy.ground(seen))
    said, _ = tuned(policy, "float32", "always")
    if "failed" in said:
        pytest.skip(said)  # a machine without a compiler
    assert said == "backbone: float32, compiled"
    for one, other in zip(before, policy.logits(policy.ground(seen)), strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def broken(error: Exception | None) -> Callable[[torch.Tensor], torch.Tensor]:
    """What a compiler made of a layer that fails, or gives something else."""

    def call(x: torch.Tensor) -> torch.Tensor:
        if error is not None:
            raise error
        return -x

    return call


@pytest.mark.parametrize(("error", "said"), [
    (RuntimeError("no working C++ compiler"), "compiling failed: no working C++ compiler"),
    (None, "compiled, its places are off by"),
])  # fmt: skip
def test_without_a_compiler_or_with_a_wrong_one_it_computes_as_it_is(
    policy: Policy, error: Exception | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = feature_cache.any_observation(policy, SHAPE, 2)
    before = policy.ground(seen).places

    def compile_blocks(backbone: Any) -> None:
        vision = backbone.model.model.vision_model
        vision.post_layernorm._compiled_call_impl = broken(error)
        monkeypatch.setattr(autotuned, "repeated_layers", lambda _: [vision.post_layernorm])

    autotuned = backbone
    monkeypatch.setattr(backbone, "compile_blocks", compile_blocks)
    told, _ = tuned(policy, "float32", "always")
    assert "not compiled" in told
    assert said in told
    assert torch.equal(policy.ground(seen).places, before)


def run(cache: str = "auto", capacity: int = 100, ram_bytes: int | None = None, augments: bool = False):
    replay = SimpleNamespace(cache=cache, capacity=capacity, ram_bytes=ram_bytes)
    return SimpleNamespace(replay=replay, algorithm=SimpleNamespace(needs=Needs(32, augments=augments)))


@pytest.mark.parametrize(("seconds", "cached"), [((2.0, 1.0), True), ((1.0, 2.0), False)])
def test_features_are_cached_where_that_measures_faster(
    policy: Policy, seconds: tuple[float, float], cached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_cache, "measure", lambda policy, shape: seconds)
    choice = feature_cache.choose(run(), SHAPE, policy)
    assert choice.cached is cached
    assert "ms encoded" in choice.said


def test_a_cache_needs_memory_and_pictures_as_they_are(policy: Policy) -> None:
    assert feature_cache.choose(run(), SHAPE, policy).cached
    assert not feature_cache.choose(run(ram_bytes=1000), SHAPE, policy).cached
    assert not feature_cache.choose(run(augments=True), SHAPE, policy).cached
    assert not feature_cache.choose(run("never"), SHAPE, policy).cached
    assert feature_cache.choose(run("always", ram_bytes=1000), SHAPE, policy).cached
    with pytest.raises(ConfigError, match=r"replay\.cache: always"):
        feature_cache.choose(run("always", augments=True), SHAPE, policy)
