"""TorchRL's replay buffer, for `vla-rl bench replay`; run by .venvs/rivals-torchrl.

default: TensorDictReplayBuffer over LazyTensorStorage. best: the same that prefetches by a thread. Its compact way
(`NextStateReconstructor`) has no next observations for transitions that are drawn independently, so it is not raced.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer

from vla_rl.bench.replay.course import BATCH, Looked, Setting, main
from vla_rl.bench.replay.stream import Step, Stream


class Default:
    """TensorDictReplayBuffer."""

    def __init__(self, setting: Setting, stream: Stream, folder: Path) -> None:
        self.cameras = list(stream.shapes)
        self.buffer = self.make(setting.capacity)

    def make(self, capacity: int) -> TensorDictReplayBuffer:
        return TensorDictReplayBuffer(storage=LazyTensorStorage(capacity), batch_size=BATCH)

    def __len__(self) -> int:
        return len(self.buffer)

    def add(self, step: Step) -> None:
        following = {
            **_tensors(step.next_stacked, step.next_state),
            "reward": torch.tensor([step.reward]),
            "done": torch.tensor([step.last]),
            "terminated": torch.tensor([step.terminated]),
            "truncated": torch.tensor([step.truncated]),
        }
        seen = _tensors(step.stacked, step.state)
        self.buffer.add(TensorDict({**seen, "action": torch.from_numpy(step.tokens), "next": following}))

    def sample(self, count: int) -> Any:
        assert count == BATCH
        return self.buffer.sample()

    def look(self, sampled: Any) -> Looked:
        seen, following = ({name: each[name].numpy() for name in self.cameras} for each in (sampled, sampled["next"]))
        return Looked(seen, following, ~sampled["next", "terminated"].numpy()[:, 0])

    def save(self, folder: Path) -> None:
        self.buffer.dumps(folder)

    def load(self, folder: Path) -> None:
        self.buffer.loads(folder)


class Best(Default):
    """With batches made ahead by a thread of its own."""

    def make(self, capacity: int) -> TensorDictReplayBuffer:
        return TensorDictReplayBuffer(storage=LazyTensorStorage(capacity), batch_size=BATCH, prefetch=2)


def _tensors(pictures: Any, state: Any) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in pictures.items()} | {"state": torch.from_numpy(state)}


if __name__ == "__main__":
    torch.set_num_threads(2)
    main({"default": Default, "best": Best})
