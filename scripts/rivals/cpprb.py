"""cpprb's replay buffer, for `vla-rl bench replay`; run by .venvs/rivals-cpprb.

default: observations and next observations side by side. best: next_of and stack_compress, told where episodes end.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from cpprb import ReplayBuffer

from vla_rl.bench.replay.course import Looked, Setting, main
from vla_rl.bench.replay.stream import Step, Stream

PLAIN = {"state": {"shape": 4}, "tokens": {"shape": 3, "dtype": np.int64}, "reward": {}, "done": {}}


class Default:
    """Everything twice. It wants a stack along the last axis."""

    def __init__(self, setting: Setting, stream: Stream, folder: Path) -> None:
        self.cameras = list(stream.shapes)
        shapes = {name: (*shape, setting.stack) for name, shape in stream.shapes.items()}
        self.buffer = self.make(setting.capacity, setting.stack, shapes)

    def make(self, capacity: int, stack: int, shapes: dict[str, tuple[int, ...]]) -> ReplayBuffer:
        spec = {name: {"shape": shape, "dtype": np.uint8} for name, shape in shapes.items()}
        following = {f"next_{name}": each for name, each in spec.items()} | {"next_state": {"shape": 4}}
        return ReplayBuffer(capacity, {**PLAIN, **spec, **following})

    def __len__(self) -> int:
        return self.buffer.get_stored_size()

    def add(self, step: Step) -> None:
        seen = {name: np.moveaxis(value, 0, -1) for name, value in step.stacked.items()}
        following = {f"next_{name}": np.moveaxis(value, 0, -1) for name, value in step.next_stacked.items()}
        self.buffer.add(
            **seen,
            **following,
            state=step.state,
            next_state=step.next_state,
            tokens=step.tokens,
            reward=step.reward,
            done=float(step.terminated),
        )
        if step.last:
            self.buffer.on_episode_end()

    def sample(self, count: int) -> Any:
        return self.buffer.sample(count)

    def look(self, sampled: Any) -> Looked:
        seen = {name: np.moveaxis(sampled[name], -1, 1) for name in self.cameras}
        following = {name: np.moveaxis(sampled[f"next_{name}"], -1, 1) for name in self.cameras}
        return Looked(seen, following, sampled["done"][:, 0] == 0)

    def save(self, folder: Path) -> None:
        self.buffer.save_transitions(str(folder / "buffer.npz"))

    def load(self, folder: Path) -> None:
        self.buffer.load_transitions(str(folder / "buffer.npz"))


class Best(Default):
    """Each observation once, each frame of a stack once."""

    def make(self, capacity: int, stack: int, shapes: dict[str, tuple[int, ...]]) -> ReplayBuffer:
        spec = {name: {"shape": shape, "dtype": np.uint8} for name, shape in shapes.items()}
        names = list(shapes)
        shared = {"stack_compress": names} if stack > 1 else {}
        return ReplayBuffer(capacity, {**PLAIN, **spec}, next_of=[*names, "state"], **shared)


if __name__ == "__main__":
    main({"default": Default, "best": Best})
