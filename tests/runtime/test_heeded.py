"""What the command line says of a policy that comes from a checkpoint takes effect, or is refused."""

import re
import warnings
from pathlib import Path

import pytest
import torch
from gymnasium import spaces

from vla_rl import build, config
from vla_rl.actions import Binned
from vla_rl.config.policy import HeadSettings, PolicySettings
from vla_rl.models.policy import Policy
from vla_rl.models.samples import Sample
from vla_rl.registry import ConfigError
from vla_rl.runtime.heeded import warn_of_blindness
from vla_rl.sft import sft


@pytest.fixture
def started(line: list[str], tmp_path: Path) -> list[str]:
    """The overrides of a run from a supervised head that never learnt."""
    start = sft(config.load([*line, "sft.steps=0", f"run_dir={tmp_path}/sft"], command="sft"))
    return [*line, f"train.checkpoint={start}"]


def begin(overrides: list[str]):
    run = config.load(overrides)
    return build.start_policy(run, build.env_spec(run), None)


def test_a_supervised_head_goes_on_with_adapters_beside_half_precision(started: list[str]) -> None:
    policy = begin([*started, "policy.train=lora", "policy.lora.rank=3", "policy.backbone.dtype=bfloat16"])
    assert policy.trainable == "lora"
    assert policy.trunk.backbone.model.dtype == torch.bfloat16
    adapters = {name: p for name, p in policy.named_parameters() if "lora_A" in name}
    assert adapters
    assert {(p.shape[0], p.dtype) for p in adapters.values()} == {(3, torch.float32)}
    assert policy.settings.backbone["dtype"] == "bfloat16"
    assert begin(started).trainable == "head"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("policy.head.width=32", r"policy\.head\.width: 32, but train\.checkpoint=.* a policy with 256"),
        ("policy.views=together", r"policy\.views: 'together', .* with 'apart'"),
        ("policy.remembers=true", r"policy\.remembers: True, .* with False"),
        ("policy.backbone.image_size=128", r"policy\.backbone\.image_size: 128, .* with None"),
        ("policy=tiny", r"policy\.backbone\.type: 'tiny', .* with 'pretrained'"),
        ("policy.train=all,policy.backbone.dtype=bfloat16", r"policy\.train=all: .* weights of bfloat16"),
    ],
)
def test_what_a_policy_cannot_become_is_refused(started: list[str], given: str, message: str) -> None:
    overrides = started if given != "policy=tiny" else [each for each in started if "policy.backbone" not in each]
    with pytest.raises(ConfigError, match=message):
        begin([*overrides, *given.split(",")])


def test_what_says_the_same_is_no_matter(started: list[str]) -> None:
    source = next(match[1] for each in started if (match := re.search(r"source: '(.*)'", each)))
    policy = begin([*started, "policy.head.depth=2", f"policy.backbone.source={source}/../{Path(source).name}"])
    assert policy.settings.head.depth == 2


@pytest.mark.parametrize("reads", [("pointers",), ("pointers", "tokens")])
def test_a_person_is_told_where_pointers_at_random_are_all_that_is_seen(reads: tuple[str, ...], tmp_path: Path) -> None:
    settings = PolicySettings(Sample("idefics3"), HeadSettings(reads=reads, width=16))
    bins = Binned(5).bind(spaces.Box(-1, 1, (3,)))
    Policy.build(settings, bins, ["front"], 3, seed=0).save_pretrained(tmp_path)
    policy = Policy.from_pretrained(tmp_path)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warn_of_blindness(policy)
        policy.trunk.pointers.grounded = True
        warn_of_blindness(policy)
    assert len(said) == ("tokens" not in reads)
    assert all("scripts/ground.py, or start a policy with policy.head.reads=[pointers,tokens]" in str(w) for w in said)


def test_adapters_suit_the_policy_and_not_the_backbone_of_the_defaults(line: list[str], tmp_path: Path) -> None:
    own = ["policy.lora.modules=all-linear", "policy.lora.parts=[language]"]
    start = sft(config.load([*line, *own, "sft.steps=0", f"run_dir={tmp_path}/sft"], command="sft"))
    unsaid = [each for each in line if "policy.backbone" not in each]  # so that the config is the tiny backbone's
    policy = begin([*unsaid, f"train.checkpoint={start}", "policy.train=lora", "policy.lora.rank=3"])
    assert (policy.settings.lora.modules, policy.settings.lora.parts) == ("all-linear", ("language",))
    assert policy.settings.lora.rank == 3
