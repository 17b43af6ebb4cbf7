"""Stable-Baselines3's replay buffer, for `vla-rl bench replay`; run by .venvs/rivals-sb3.

default: DictReplayBuffer. best: ReplayBuffer with optimize_memory_usage, which takes neither a Dict nor time limits; so
the cameras are joined into one picture, and the state is left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.save_util import load_from_pkl, save_to_pkl

from vla_rl.bench.replay.course import Looked, Setting, main
from vla_rl.bench.replay.stream import Step, Stream

ACTIONS = spaces.MultiDiscrete([11, 11, 11])


class Default:
    """DictReplayBuffer."""

    def __init__(self, setting: Setting, stream: Stream, folder: Path) -> None:
        self.cameras = stream.shapes
        self.stack = setting.stack
        self.buffer: Any = self.make(setting.capacity)

    def make(self, capacity: int) -> Any:
        shapes = {name: (self.stack, *shape) for name, shape in self.cameras.items()}
        pictures = {name: spaces.Box(0, 255, shape, np.uint8) for name, shape in shapes.items()}
        space = spaces.Dict({**pictures, "state": spaces.Box(-9, 9, (4,), np.float32)})
        return DictReplayBuffer(capacity, space, ACTIONS, device="cpu")

    def __len__(self) -> int:
        return self.buffer.size()

    def add(self, step: Step) -> None:
        seen = {name: value[None] for name, value in step.stacked.items()} | {"state": step.state[None]}
        following = {name: value[None] for name, value in step.next_stacked.items()} | {"state": step.next_state[None]}
        self._put(seen, following, step)

    def _put(self, seen: Any, following: Any, step: Step) -> None:
        infos = [{"TimeLimit.truncated": step.truncated}]
        reward, done = np.array([step.reward]), np.array([step.last])
        self.buffer.add(seen, following, step.tokens[None], reward, done, infos)

    def sample(self, count: int) -> Any:
        return self.buffer.sample(count)

    def look(self, sampled: Any) -> Looked:
        seen = {name: sampled.observations[name].numpy() for name in self.cameras}
        following = {name: sampled.next_observations[name].numpy() for name in self.cameras}
        return Looked(seen, following, sampled.dones.numpy()[:, 0] == 0)

    def save(self, folder: Path) -> None:
        save_to_pkl(folder / "buffer.pkl", self.buffer)

    def load(self, folder: Path) -> None:
        self.buffer = load_from_pkl(folder / "buffer.pkl")


class Best(Default):
    """ReplayBuffer that keeps each observation once."""

    def make(self, capacity: int) -> Any:
        height, width, _ = next(iter(self.cameras.values()))
        space = spaces.Box(0, 255, (len(self.cameras) * self.stack, height, width, 3), np.uint8)
        # Without channels first or last as it knows them, nothing is normalised or transposed.
        return ReplayBuffer(
            capacity, space, ACTIONS, device="cpu", optimize_memory_usage=True, handle_timeout_termination=False
        )

    def add(self, step: Step) -> None:
        seen, following = (np.concatenate([*each.values()])[None] for each in (step.stacked, step.next_stacked))
        # Time limits cannot be told apart: the task alone ends an episode, or else nothing bootstraps at a limit.
        infos: list[dict] = [{}]
        reward, done = np.array([step.reward]), np.array([step.terminated])
        self.buffer.add(seen, following, step.tokens[None], reward, done, infos)

    def look(self, sampled: Any) -> Looked:
        seen, following = (self._parted(each) for each in (sampled.observations, sampled.next_observations))
        return Looked(seen, following, sampled.dones.numpy()[:, 0] == 0)

    def _parted(self, joined: Any) -> dict[str, np.ndarray]:
        return dict(zip(self.cameras, np.split(joined.numpy(), len(self.cameras), axis=1), strict=True))


if __name__ == "__main__":
    main({"default": Default, "best": Best})
