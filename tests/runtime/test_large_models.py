"""What a large model needs on one GPU: layers computed once more, micro-batches, optimiser states in 8 bits."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.algorithms.test_pa_rl import BINS, SETTINGS, STATES, bandit
from vla_rl import build, config
from vla_rl.actions import Binned
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.config.policy import HeadSettings, LoraSettings, PolicySettings
from vla_rl.data.record import record
from vla_rl.models.adapters import share_frozen
from vla_rl.models.policy import Policy
from vla_rl.models.recompute import outer_layers
from vla_rl.models.samples import SAMPLES, Sample
from vla_rl.models.trunk import Trunk
from vla_rl.registry import SetupError
from vla_rl.runtime.learner import Learner
from vla_rl.runtime.optimizers import ADAMW_8BIT
from vla_rl.runtime.serialization import load_state, save_state
from vla_rl.sft import imitation_step, sft
from vla_rl.specs import STATE, TASK

ROWS = 12
SFT: Any = SimpleNamespace(feature_noise=0.0, label_smoothing=0.0)


def algorithm_of(train: str, family: str = "idefics3", **learning: Any) -> Any:
    """An algorithm on a random model of a family; what `Learner` takes says how it learns."""
    from gymnasium import spaces

    space = Binned(BINS).bind(spaces.Box(-1, 1, (2,)))
    head = HeadSettings(("pointers", "tokens"), width=32, text_tokens=8)
    wanted = PolicySettings(Sample(family), head, train, LoraSettings(rank=2, alpha=4))
    torch.manual_seed(0)
    policy = Policy.build(wanted, space, ["front"], STATES, seed=0)
    settings = dataclasses.replace(SETTINGS, batch_size=ROWS, actor_batch_size=ROWS, backbone_lr=1e-3)
    return settings.build(policy=policy, learner=Learner(device="cpu", seed=1, **learning))


def learnt(algorithm: Any) -> dict[str, torch.Tensor]:
    """The gradients of an update of the algorithm, and then of a supervised step, by name."""
    found = {}
    for name, step in (("update", update), ("sft", supervised)):
        step(algorithm)
        own = algorithm.policy.named_parameters()
        found |= {f"{name} {key}": value.grad.clone() for key, value in own if value.grad is not None}
    return found


def update(algorithm: Any) -> None:
    algorithm.update(bandit(algorithm, ROWS, seed=0, images=True))


def supervised(algorithm: Any) -> None:
    policy, learner = algorithm.policy, algorithm.learner
    rows = LearnerBatch.of(bandit(algorithm, ROWS, seed=1, images=True), policy, learner.device, following=False)
    imitation_step(policy, rows, learner, algorithm.actor_optimizer, SFT)


def assert_equal_steps(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one
    assert one.keys() == other.keys()
    for name, value in one.items():
        # The second step starts from the weights of the first, and so repeats its differences.
        assert torch.allclose(value, other[name], rtol=2e-3, atol=2e-5), name


@pytest.mark.parametrize("train", ["head", "lora", "all"])
@pytest.mark.parametrize("learning", [{"micro_batch_size": 5}, {"gradient_checkpointing": True}], ids=str)
def test_the_updates_are_those_of_one_batch_with_all_kept(train: str, learning: dict[str, Any]) -> None:
    whole, parts = algorithm_of(train), algorithm_of(train, **learning)
    assert_equal_steps(learnt(whole), learnt(parts))


def kept_bytes(policy: Policy, observation: dict[str, Any]) -> int:
    """What is kept for the gradient of the policy's features, without weights."""
    own = {value.untyped_storage().data_ptr() for value in policy.state_dict().values()}
    kept: dict[int, int] = {}

    def keep(value: torch.Tensor) -> torch.Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        features = policy.encode(observation)
    assert features.tokens is not None
    assert features.tokens.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize(("family", "train"), [("idefics3", "lora"), *((family, "all") for family in SAMPLES)])
def test_layers_are_computed_once_more_and_not_kept_in_every_family(family: str, train: str) -> None:
    policy = algorithm_of(train, family).policy
    assert not policy.trunk.training  # which is why transformers' own switch does nothing
    backbone = policy.trunk.backbone
    layer = outer_layers(backbone.model.get_submodule(f"model.{backbone.language}"))[0]
    inside = next(each for each in layer.modules() if "Norm" in type(each).__name__)
    calls: list[int] = []
    inside.register_forward_hook(lambda *_: calls.append(1))
    seen = bandit_observation()
    kept, gradients, called = [], [], []
    for recompute in (False, True):
        policy.recompute_layers(recompute)
        kept.append(kept_bytes(policy, seen))
        calls.clear()
        policy.zero_grad()
        policy.encode(seen).tokens.square().mean().backward()
        called.append(len(calls))
        gradients.append([p.grad.clone() for p in policy.trainable_parameters() if p.grad is not None])
    assert called[1] == 2 * called[0] > 0
    assert kept[1] < 0.7 * kept[0]
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(*gradients, strict=True))


def test_a_copy_computes_its_own_layers_once_more() -> None:
    policy = algorithm_of("lora", gradient_checkpointing=True).policy
    other = copy.deepcopy(policy)
    for mine, its in zip(*(outer_layers(each.trunk.backbone.model) for each in (policy, other)), strict=True):
        assert mine.forward.layer is mine  # type: ignore[union-attr]
        assert its.forward.layer is its  # type: ignore[union-attr]
    policy.recompute_layers(False)
    assert not any("forward" in vars(each) for each in outer_layers(policy.trunk.backbone.model))


def test_states_in_8_bits_learn_save_and_skip_bad_gradients(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra 8bit")
    learner = Learner(device="cpu", optimizer=ADAMW_8BIT)
    torch.manual_seed(0)
    weight, target = torch.nn.Parameter(torch.randn(128, 64)), torch.randn(128, 64)
    optimizer, exact = (learner.optimizer([weight], lr=1e-2, of_policy=each) for each in (True, False))
    assert type(exact.optimizer) is torch.optim.AdamW

    def step(optimizer: Any, scale: float = 1.0) -> float:
        loss = scale * (weight - target).square().mean()
        learner.step(loss, optimizer, clip=1.0)
        return float(loss.detach())

    start, losses = weight.detach().clone(), []
    for each in (optimizer, exact):
        weight.data.copy_(start)
        losses.append([step(each) for _ in range(100)])
    assert np.allclose(*losses, rtol=0.02)
    assert losses[0][-1] < 0.4 * losses[0][0]
    state = optimizer.optimizer.state[weight]
    assert state["state1"].dtype == state["state2"].dtype == torch.uint8
    before = weight.detach().clone()
    step(optimizer, scale=float("nan"))
    assert torch.equal(weight, before)
    assert learner.skipped == 1
    save_state(tmp_path, optimizer.state_dict())
    other = learner.optimizer([weight], lr=1e-2, of_policy=True)
    other.load_state_dict(load_state(tmp_path))
    again = other.optimizer.state[weight]
    assert torch.equal(again["state1"], state["state1"])
    assert torch.equal(again["absmax2"], state["absmax2"])


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    importlib.invalidate_caches()
    with pytest.raises(
        SetupError, match=r"adamw_8bit needs bitsandbytes .*pip install 'vla-rl\[8bit\]'`, or give adamw"
    ):
        Learner(device="cpu", optimizer=ADAMW_8BIT)


@pytest.mark.parametrize("train", ["lora", "all"])
def test_the_policy_that_a_run_starts_from_has_no_weights_of_its_own_that_never_train(train: str) -> None:
    policy = algorithm_of(train, "smolvlm").policy
    seen = bandit_observation()
    moved(policy, seen)
    policy.renew()
    reference = policy.frozen_copy()
    start = reference.logits(reference.encode(seen))[0].clone()
    share_frozen(reference, policy)
    own = {id(value) for value in policy.parameters()}
    apart = [name for name, value in reference.named_parameters() if id(value) not in own]
    assert apart
    assert all(name.startswith("head.") or "lora_" in name for name in apart if not name.startswith("trunk.pointers"))
    assert not any(name.startswith("trunk.backbone") for name in apart) or train == "lora"
    moved(policy, seen)
    assert torch.equal(reference.logits(reference.encode(seen))[0], start)
    assert not torch.equal(policy.logits(policy.encode(seen))[0], start)


def bandit_observation() -> dict[str, Any]:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    return {"observation.images.front": pixels, STATE: np.zeros((4, STATES), np.float32), TASK: ["x"] * 4}


def moved(policy: Policy, seen: dict[str, Any]) -> None:
    """Two large steps of all that trains."""
    optimizer = torch.optim.AdamW(policy.trainable_parameters(), lr=1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        (-policy.log_prob(policy.encode(seen), torch.ones(4, 1, 2, dtype=torch.long)).mean()).backward()
        optimizer.step()


@pytest.mark.parametrize("train", ["head", "lora"])
def test_demonstrations_are_read_once_in_batches_as_the_run_computes(
    train: str, quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["sft.steps=0", "mixed_precision=bf16", f"policy.train={train}", f"run_dir={tmp_path}/run"]
    run = config.load([*quick, "demos.episodes=2", "tracker=null", *overrides], command="sft")
    record(run)
    rows, read = [], Trunk.read

    def reads(trunk: Trunk, images: Any, *further: Any) -> Any:
        assert torch.is_autocast_enabled("cpu")
        rows.append(len(images[0]))
        return read(trunk, images, *further)

    monkeypatch.setattr(Trunk, "read", reads)
    done = sft(run)
    (shown,) = build.demonstrations(run, build.env_spec(run))
    decisions = sum(len(episode) for episode in shown)
    assert sum(rows) == (decisions + len(shown) if train == "head" else decisions)
    assert max(rows) <= 64
    policy = Policy.from_pretrained(done / "pretrained_model")
    assert (policy.readout.std != 1).any()
