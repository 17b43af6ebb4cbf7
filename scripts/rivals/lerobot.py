"""LeRobot's replay buffer, for `vla-rl bench replay`; run by .venvs/rivals-lerobot.

default: states and next states. best: optimize_memory. Both without its augmentation of pictures, which would be part
of the time. It keeps pictures as float32, and saves only by turning into a dataset, which is not raced.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lerobot.rl.buffer import ReplayBuffer

from vla_rl.bench.replay.course import Looked, Setting, main
from vla_rl.bench.replay.stream import Step, Stream


class Default:
    """States and next states."""

    optimize_memory = False

    def __init__(self, setting: Setting, stream: Stream, folder: Path) -> None:
        self.cameras = list(stream.shapes)
        self.buffer = ReplayBuffer(
            setting.capacity,
            device="cpu",
            state_keys=[*self.cameras, "state"],
            image_augmentation_function=lambda pictures: pictures,
            use_drq=False,
            optimize_memory=self.optimize_memory,
        )

    def __len__(self) -> int:
        return len(self.buffer)

    def add(self, step: Step) -> None:
        self.buffer.add(
            state=_tensors(step.stacked, step.state),
            action=torch.from_numpy(step.tokens)[None],
            reward=step.reward,
            next_state=_tensors(step.next_stacked, step.next_state),
            done=step.terminated,
            truncated=step.truncated,
        )

    def sample(self, count: int) -> Any:
        return self.buffer.sample(count)

    def look(self, sampled: Any) -> Looked:
        observations = (sampled["state"], sampled["next_state"])
        seen, following = ({name: each[name].numpy() for name in self.cameras} for each in observations)
        return Looked(seen, following, sampled["done"].numpy() == 0)

    def save(self, folder: Path) -> None:
        raise NotImplementedError

    def load(self, folder: Path) -> None:
        raise NotImplementedError


class Best(Default):
    """States alone; the next one is that of the next place."""

    optimize_memory = True


def _tensors(pictures: Any, state: Any) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value)[None] for name, value in {**pictures, "state": state}.items()}


if __name__ == "__main__":
    torch.set_num_threads(2)
    main({"default": Default, "best": Best})
