"""Datasets in the LeRobotDataset v3 format: demonstrations and whole replays written to them and read from them."""

from vla_rl.data.lerobot.demonstrations import episodes, load, write_demonstrations
from vla_rl.data.lerobot.layout import Limits, is_dataset
from vla_rl.data.lerobot.read import Dataset, Recorded
from vla_rl.data.lerobot.replays import read_replay, write_replay
from vla_rl.data.lerobot.write import Writer, writing

__all__ = [
    "Dataset",
    "Limits",
    "Recorded",
    "Writer",
    "episodes",
    "is_dataset",
    "load",
    "read_replay",
    "write_demonstrations",
    "write_replay",
    "writing",
]
