"""What the command line says of a policy that comes from a checkpoint takes effect, or is refused."""

import re
from pathlib import Path

import pytest
import torch

from vla_rl import build, config
from vla_rl.registry import ConfigError
from vla_rl.sft import sft


@pytest.fixture
def started(line: list[str], tmp_path: Path) -> list[str]:
    """The overrides of a run from a supervised head that never learnt."""
    start = sft(config.load([*line, "sft.steps=0", f"run_dir={tmp_path}/sft"], command="sft"))
    return [*line, f"train.checkpoint={start}"]


def begin(overrides: list[str]):
    run = config.load(overrides)
    return build.start_policy(run, build.env_spec(run), (), None)


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
