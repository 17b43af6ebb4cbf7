"""Actions of several parts, such as a hand and a tool: recorded, decided, trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gymnasium import spaces

from vla_rl import build, config, envs
from vla_rl.data import demos
from vla_rl.data.flat import pack, unpack
from vla_rl.sft import sft
from vla_rl.train import train

SEEN = "observation.images.close_up"

TOOLED = (
    "env=pick",
    "env.kwargs.tools=[{type: close_up}]",
    "env.sensors=[{type: camera, width: 16, height: 16}, {type: close_up, width: 16, height: 16}, {type: instruction}]",
    "action_space={type: compose, parts: {robot: {type: binned}, close_up: {type: choice}}}",
)


def test_actions_of_several_parts_are_kept_and_decided(tmp_path: Path) -> None:
    run = config.load([*TOOLED, "demos.episodes=2", "demos.noise=0.3", f"demos.path={tmp_path / 'demos'}"])
    demos.record(run)
    spec = build.env_spec(run)
    (found,) = build.demonstrations(run, spec)
    env = envs.factory(run)()
    calls = 0
    for episode in found:
        assert episode.action.shape == (len(episode), 6)
        decisions = demos.to_decisions(episode, spec.tokens, spec.actions)
        observation, _ = env.reset(seed=episode.seed)
        for step in range(len(episode)):
            action = unpack(episode.action[step], env.action_space)
            assert env.action_space.contains(action)
            assert np.array_equal(pack(action, env.action_space), episode.action[step])
            calls += int(action["close_up"] > 0)
            assert spec.tokens.decode(decisions.tokens[step])["close_up"] == action["close_up"]
            observation = env.step(action)[0]
        assert np.array_equal(observation[SEEN], episode.observations[SEEN][-1])
    assert calls > 0


def test_a_policy_learns_with_a_tool(tmp_path: Path) -> None:
    common = ["experiment=smoke", *TOOLED, f"demos.path={tmp_path / 'demos'}", "device=cpu", "tracker=null"]
    demos.record(config.load(common, command="demos"))
    start = sft(config.load([*common, f"run_dir={tmp_path / 'sft'}"], command="sft"))
    tuned = train(config.load([*common, f"run_dir={tmp_path / 'rl'}", f"train.checkpoint={start}"], command="train"))
    assert (tuned / "pretrained_model" / "config.json").is_file()


def test_nested_actions_come_back_whole() -> None:
    inner = spaces.Dict({"choice": spaces.Discrete(4), "move": spaces.Box(-1, 1, (2,), np.float32)})
    space = spaces.Dict({"first": inner, "last": spaces.MultiDiscrete([3, 2])})
    space.seed(0)
    for _ in range(20):
        action = space.sample()
        row = pack(action, space)
        assert row.shape == (5,)
        back = unpack(row, space)
        assert space.contains(back)
        assert np.array_equal(pack(back, space), row)
        assert back["first"]["choice"] == action["first"]["choice"]
        assert np.array_equal(back["last"], action["last"])
