"""The whole way in small for decisions that are said token by token: start, training, going on, acting elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.fakes import Line
from vla_rl import config, evaluate, train
from vla_rl.data.record import record
from vla_rl.models import storage
from vla_rl.registry import ConfigError
from vla_rl.runtime import checkpoint
from vla_rl.sft import sft

SPEAKS = "policy.head.type=autoregressive"
WAYS = {
    "tokens": [SPEAKS],
    "compressed": [SPEAKS, "policy.head.decoder=copy", "action_space={type: fast, horizon: 3}"],
}
BRIEF = ["demos.episodes=3", "sft.steps=3", "algorithm.demo_share=0.25", "train.steps=48", "train.num_envs=4"]


@pytest.mark.parametrize("way", WAYS)
def test_a_run_starts_trains_goes_on_and_acts(line: list[str], tmp_path: Path, way: str) -> None:
    own = [*line, *BRIEF, *WAYS[way], "train.eval_every=24", "train.eval_episodes=2"]
    record(config.load(own, command="demos"))
    start = sft(config.load([*own, f"run_dir={tmp_path}/sft"], command="sft"))
    train.train(config.load([*own, f"train.checkpoint={start}", "algorithm.kl_weight=0.1"]))
    told = storage.read_config(checkpoint.policy_folder(tmp_path / "run"))["action_space"]
    assert told == storage.read_config(checkpoint.policy_folder(start))["action_space"]
    shutil.rmtree(tmp_path / "demos")  # which neither evaluation nor, where it was fitted, the tokens need again
    again = [*WAYS[way], f"run_dir={tmp_path}/eval"]  # said once more, before it was fitted
    found = evaluate(tmp_path / "run", "eval.episodes=2", "eval.best_of=3", *again)
    assert 0 <= found.pc_success <= 100
    assert 0 <= evaluate(tmp_path / "sft", env=Line, episodes=2).pc_success <= 100
    if way == "compressed":
        with pytest.raises(ValueError, match="was made for action space"):
            evaluate(tmp_path / "run", "action_space={type: fast, horizon: 2}", f"run_dir={tmp_path}/other")
        assert told["merges"] is not None
        space = config.load([], base=tmp_path / "run" / config.CONFIG_FILE).action_space
        assert space.merges == told["merges"]
        walk = [np.array([each], np.float32) for each in (1.0, 1.0, 0.5)]
        assert np.abs(np.stack(space.decode(space.encode(walk))) - walk).max() <= 3**0.5 / 20


def test_a_run_without_demonstrations_has_a_token_for_each_symbol(line: list[str], tmp_path: Path) -> None:
    train.train(config.load([*line, "train.steps=16", "train.num_envs=2", *WAYS["compressed"]]))
    told = storage.read_config(checkpoint.policy_folder(tmp_path / "run"))["action_space"]
    assert (told["merges"], told["tokens"]) == ("", 3)  # steps of a chunk of one number


def test_a_parallel_head_is_told_that_it_cannot_say_compressed_tokens(line: list[str]) -> None:
    with pytest.raises((ConfigError, ValueError), match=r"policy\.head\.type=parallel"):
        train.train(config.load([*line, "action_space={type: fast, horizon: 3}"]))
