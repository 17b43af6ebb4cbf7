"""Demonstrations, supervised start, reinforcement learning, evaluation: the commands, from a script."""

import sys

from vla_rl import config
from vla_rl.data.record import record
from vla_rl.eval import evaluate_checkpoint
from vla_rl.sft import sft
from vla_rl.train import train


def main(*overrides: str) -> float:
    """Returns greedy success on held-out seeds, in percent."""
    settings = ["experiment=reach", *overrides]
    record(config.load(settings, command="demos"))
    start = sft(config.load(settings, command="sft"))
    tuned = train(config.load([*settings, f"train.checkpoint={start}"], command="train"))
    return evaluate_checkpoint(config.load([*settings, f"eval.checkpoint={tuned}"], command="eval")).pc_success


if __name__ == "__main__":
    print(f"success: {main(*sys.argv[1:]):.0f}%")
