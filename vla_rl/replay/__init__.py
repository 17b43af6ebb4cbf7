"""Image-aware replay: each frame stored once, episodes kept whole to their last observation. numpy only."""

from vla_rl.replay.batch import Batch
from vla_rl.replay.buffer import ReplayBuffer
from vla_rl.replay.episodes import EndedEpisode, EpisodeListener
from vla_rl.replay.hindsight import Hindsight, Relabel
from vla_rl.replay.memory import Ground
from vla_rl.replay.prefetch import Prefetcher
from vla_rl.replay.reader import Chunks
from vla_rl.replay.samplers import NothingToSampleError, Priority
from vla_rl.replay.sampling import Own, sample_mixed

__all__ = [
    "Batch",
    "Chunks",
    "EndedEpisode",
    "EpisodeListener",
    "Ground",
    "Hindsight",
    "NothingToSampleError",
    "Own",
    "Prefetcher",
    "Priority",
    "Relabel",
    "ReplayBuffer",
    "sample_mixed",
]
