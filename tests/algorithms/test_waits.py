"""Neither acting nor learning waits for the device in between, and acting reads what is seen once.

The device here is PyTorch's `meta`: its tensors have no numbers, so that whatever looks at one raises. What is sent
there or fetched from there by other means than `transfer` is found by what is called.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from tests.algorithms.test_algorithms import CONFIGS
from tests.algorithms.test_pa_rl import SETTINGS, bandit, make
from vla_rl.algorithms.actor_critic import ActorCritic
from vla_rl.models import transfer
from vla_rl.models.backbone import Backbone
from vla_rl.models.policy import Policy
from vla_rl.rollout.actor import Actor
from vla_rl.runtime.learner import Learner
from vla_rl.specs import STATE, TASK

META = torch.device("meta")


class Watched(TorchFunctionMode):
    """Notes what is copied from the host, but by `transfer`."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        made = func(*args, **(kwargs or {}))
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor | np.ndarray)]
        on_host = any(isinstance(leaf, np.ndarray) or (leaf.device != META and leaf.ndim > 0) for leaf in given)
        name = getattr(func, "__name__", str(func))
        lists = name == "__getitem__" and any(isinstance(part, list) for part in _parts(args[1]))
        made_of_list = name in ("tensor", "new_tensor", "as_tensor") and not given
        there = any(isinstance(leaf, torch.Tensor) and leaf.device == META for leaf in tree_leaves(made))
        if there and (on_host or lists or made_of_list or name == "nonzero") and not _by_transfer():
            self.found.append(f"{name}: {_where()}")
        return made


def _where() -> str:
    """The line of ours that called it."""
    frame: Any = sys._getframe(1)
    while frame is not None and "/vla_rl/" not in frame.f_code.co_filename:
        frame = frame.f_back
    return "" if frame is None else f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def _parts(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def _by_transfer() -> bool:
    frame: Any = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == transfer.__file__:
            return True
        frame = frame.f_back
    return False


@pytest.fixture
def fetches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many times something was fetched; of what has no numbers, zeros are."""
    found, fetched = list[int](), transfer._on_host

    def counted(values: Any) -> Any:
        if sys._getframe(1).f_code.co_name == "fetched":
            found.append(1)
        return fetched(values)

    monkeypatch.setattr(transfer, "_on_host", counted)
    monkeypatch.setattr(transfer, "_copied", lambda value: torch.zeros(value.shape, dtype=value.dtype, device="cpu"))
    return found


class Plain(torch.optim.AdamW):
    """Takes each step, and looks at nothing that says otherwise; the fused one does not know this device."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.defaults["fused"] = True  # as the learner asks; a step goes by its groups

    optimizer = property(lambda self: self)
    found_inf = property(lambda self: None, lambda self, value: None)


def on_meta(folder: Path, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Any:
    """An algorithm whose networks, batches and noise lie there."""
    learner = Learner("cpu", seed=1)
    learner.device = META
    learner._bad_steps, learner._skipped = torch.zeros((), device=META), torch.zeros((), device=META)
    monkeypatch.setattr(learner, "optimizer", lambda weights, lr, *_, **__: Plain(weights, lr, foreach=True))
    monkeypatch.setattr(torch, "autocast", lambda *given, **named: nullcontext())  # which does not know this device
    policy = make(folder).policy.to(META)
    return settings.build(policy=policy, learner=learner)


def shown(rows: int) -> dict[str, Any]:
    pictures = np.zeros((rows, 64, 64, 3), np.uint8)
    return {"observation.images.front": pictures, STATE: np.zeros((rows, 4), np.float32), TASK: ["reach it"] * rows}


@pytest.mark.parametrize("name", ["pa_rl", "awac", "iql", "recap"])
def test_an_update_looks_at_nothing_and_sends_by_page_locked_memory_alone(
    random_backbone: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    algorithm = on_meta(random_backbone, monkeypatch, CONFIGS[name])
    algorithm.updates = algorithm.settings.warmup_updates + 1
    with Watched() as watched:
        for number, images in enumerate((False, True, False)):
            algorithm.update(bandit(algorithm, 16, seed=number, images=images))
    assert watched.found == []


def test_a_decision_is_fetched_once_and_nothing_else_is_looked_at(
    random_backbone: Path, monkeypatch: pytest.MonkeyPatch, fetches: list[int]
) -> None:
    algorithm = on_meta(random_backbone, monkeypatch, SETTINGS)
    algorithm.explorer.epsilon, algorithm.explorer.greedy_share = 0.5, 0.5
    with Watched() as watched:
        decision = algorithm.explore(shown(3))
        assert len(fetches) == 1
        tokens, told = Actor(algorithm.policy, algorithm.scorer, best_of=4)(shown(2))
        assert len(fetches) == 2
    assert watched.found == []
    assert decision.tokens.shape == (3, 2)
    assert set(decision.features) == set(algorithm.policy.cached_features())
    assert tokens.shape == (2, 2)
    assert told["q"].shape == (2,)


def test_the_watch_finds_what_waits() -> None:
    x, found = torch.zeros(3, 2, device=META), list[list[str]]()
    for work in (lambda: x[:, [0, 1]], lambda: torch.tensor([1.0], device=META), lambda: torch.ones(2).to(META)):
        with Watched() as watched:
            work()
        found.append(watched.found)
    assert all(found), found
    with pytest.raises(RuntimeError, match="meta"):
        x.sum().item()


@pytest.mark.parametrize("train", ["head", "lora", "all"])
def test_acting_reads_what_is_seen_once(random_backbone: Path, train: str, monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm: ActorCritic = make(random_backbone, train=train)
    reads, read = list[int](), Backbone.forward
    monkeypatch.setattr(Backbone, "forward", lambda *given: reads.append(1) or read(*given))
    Actor(algorithm.policy)(shown(2))
    assert len(reads) == 1
    algorithm.explorer.keeps_features = False
    algorithm.explore(shown(2))
    assert len(reads) == 2
    algorithm.explorer.keeps_features = True  # what critics read of a trunk that trains is another trunk's
    decision = algorithm.explore(shown(2))
    assert len(reads) == (3 if train == "head" else 4)
    frozen = algorithm.policy.ground(shown(2)).pack()
    assert all(np.array_equal(value, decision.features[name]) for name, value in frozen.items())


def test_acting_and_the_policy_agree(random_backbone: Path) -> None:
    policy: Policy = make(random_backbone, train="lora").policy
    tokens, _ = Actor(policy)(shown(2))
    with torch.no_grad():
        assert np.array_equal(tokens, policy.greedy(policy.encode(shown(2))).numpy())
