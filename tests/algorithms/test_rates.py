"""How fast the parts of an actor learn."""

from dataclasses import replace

import pytest
import torch
from gymnasium import spaces

from vla_rl.actions import Binned
from vla_rl.algorithms.configs import FilteredBc, PaRl
from vla_rl.algorithms.rates import ActorRates
from vla_rl.config.policy import HeadSettings, LoraSettings, PolicySettings, Trainable
from vla_rl.models.policy import Policy
from vla_rl.models.samples import Sample
from vla_rl.models.settings import Tiny
from vla_rl.runtime.learner import Learner

BINS = Binned(5).bind(spaces.Box(-1, 1, (3,)))


def policy(train: Trainable, backbone=None) -> Policy:
    settings = PolicySettings(
        backbone or Sample("idefics3"), HeadSettings(width=16), train=train, lora=LoraSettings(rank=2)
    )
    return Policy.build(settings, BINS, ["front"], 3, seed=0)


@pytest.mark.parametrize(
    ("train", "given", "rates"), [("head", None, [3e-4]), ("lora", None, [1e-4, 3e-4]), ("all", None, [1e-5, 3e-4]),
                                  ("lora", 5e-4, [5e-4, 3e-4])],
)  # fmt: skip
def test_the_backbone_learns_as_such_models_do_or_as_is_said(train, given, rates):
    actor = policy(train)
    found = ActorRates.of(actor, 3e-4, given, 10)
    groups = found.groups(actor)
    assert [group["lr"] for group in groups] == rates
    assert sum(len(group["params"]) for group in groups) == len(actor.trainable_parameters())
    names = {id(p): name for name, p in actor.named_parameters()}
    last = {names[id(p)].split(".")[0] for p in groups[-1]["params"]}
    assert last == ({"head"} if train != "all" else {"head", "trunk"})  # the pointers learn as the head does
    assert all(names[id(p)].startswith("trunk.backbone.") for group in groups[:-1] for p in group["params"])


def test_the_tiny_backbone_and_slow_heads_keep_one_rate():
    assert ActorRates.of(policy("lora", Tiny()), 3e-4, None, 0).backbone == 3e-4
    assert ActorRates.of(policy("lora"), 1e-5, None, 0).backbone == 1e-5


@pytest.mark.parametrize("settings", [PaRl(warmup_updates=0, critic_updates=2), FilteredBc()])
def test_the_backbone_sets_off_gently_and_both_fall_together(settings):
    settings = replace(settings, final_lr=0.5, backbone_warmup=4)
    actor = policy("lora")
    algorithm = settings.build(policy=actor, learner=Learner("cpu"), **({"reference": None}))
    optimizer = getattr(algorithm, "actor_optimizer", None) or algorithm.optimizer
    each = 2 if isinstance(settings, PaRl) else 1
    for updates, done, shares in ((0, 0.0, (0.25, 1.0)), (1, 0.0, (0.5, 1.0)), (9, 1.0, (0.5, 0.5))):
        algorithm.updates = updates * each
        algorithm.anneal(done)
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([1e-4 * shares[0], 3e-4 * shares[1]])


def test_what_an_older_version_saved_in_one_group_goes_on_in_two():
    actor = policy("lora")
    rates = ActorRates.of(actor, 3e-4, None, 0)
    old = torch.optim.AdamW(actor.trainable_parameters(), 3e-4)
    for i, parameter in enumerate(actor.trainable_parameters()):
        parameter.grad = torch.full_like(parameter, i + 1.0)
    old.step()
    new = torch.optim.AdamW(rates.groups(actor))
    rates.load(new, old.state_dict())
    for parameter in actor.trainable_parameters():
        assert torch.equal(new.state[parameter]["exp_avg"], old.state[parameter]["exp_avg"])
    rates.set(new, 1.0, 0)
    assert [group["lr"] for group in new.param_groups] == [1e-4, 3e-4]


def test_what_is_no_rate_is_refused():
    for wrong in ({"backbone_lr": 0.0}, {"backbone_lr": 2.0}, {"backbone_warmup": -1}):
        with pytest.raises(ValueError, match="backbone_lr: in"):
            PaRl(**wrong)
