"""What is measured before a run is the first process's to say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vla_rl import build, config
from vla_rl.autotune import alike, feature_cache
from vla_rl.autotune.backbone import is_compiled
from vla_rl.autotune.feature_cache import CacheChoice
from vla_rl.registry import ConfigError
from vla_rl.runtime.learner import Learner


def second_process(said: Any) -> Learner:
    """A learner of the second process, where the first one says `said`."""
    learner = Learner(device="cpu")
    learner.rank, learner.processes = 1, 2
    learner.told = lambda value: said  # type: ignore[method-assign]
    return learner


def test_the_others_do_as_the_first_process_does(line: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run = config.load(line)
    spec = build.env_spec(run)
    policy = build.fresh_policy(run, spec)
    learner = second_process(("bfloat16", "always", "half is faster"))
    assert alike.tune_alike(learner, policy, run, spec.observation) == "half is faster"
    assert str(policy.trunk.backbone.model.dtype) == "torch.bfloat16"
    assert is_compiled(policy.trunk.backbone)

    monkeypatch.setattr(feature_cache, "choose", lambda *_: CacheChoice(False, "slow"))
    found = alike.choose_alike(second_process(CacheChoice(True, "fast")), run, spec.observation, policy)
    assert found == CacheChoice(True, "fast")


def test_layers_that_are_shared_are_not_compiled(line: list[str], tmp_path: Path) -> None:
    run = config.load([*line, "policy.compile=always"])
    spec = build.env_spec(run)
    learner = second_process(None)
    learner._sharding = object()  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=r"policy\.compile: always, but layers that processes share are not"):
        alike.tune_alike(learner, build.fresh_policy(run, spec), run, spec.observation)
