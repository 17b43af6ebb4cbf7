"""Image-aware replay: each frame stored once, episodes kept whole to their last observation. numpy only."""

from vla_rl.replay.batch import Batch
from vla_rl.replay.buffer import Chunks, ReplayBuffer
from vla_rl.replay.hindsight import Hindsight, Relabel
from vla_rl.replay.memory import Ground
from vla_rl.replay.prefetch import Feed
from vla_rl.replay.samplers import By, NothingToSampleError
from vla_rl.replay.sampling import Own, sample_mixed

__all__ = [
    "Batch",
    "By",
    "Chunks",
    "Feed",
    "Ground",
    "Hindsight",
    "NothingToSampleError",
    "Own",
    "Relabel",
    "ReplayBuffer",
    "sample_mixed",
]
