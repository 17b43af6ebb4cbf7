"""How well a backbone's pointers see what has to be clicked on drawn screens.

Usage: .venv/bin/python -m scripts.sight_of_screens [FOLDER] [--side 96] [--episodes 50] [--tasks ...]

All states along the expert's paths in which it clicks or drags something, on training seeds. Of each kind of thing
there: in how many of them one of the pointers is on the thing, by what the instruction alone tells them. A head can
only copy a place that something points at.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import gymnasium
import numpy as np
import torch

import sims  # noqa: F401  (registers the environments)
from sims.gui.env import GuiEnv
from sims.gui.widget import Placed
from vla_rl.grounding.pretrain import encode
from vla_rl.models.backbone import Backbone
from vla_rl.models.pointers import MENTIONS, Pointers
from vla_rl.specs import TASK

TASKS = (
    *("ClickColour", "ClickLabel", "ClickShape", "ClickRelation", "TypeAndSubmit", "FillForm", "TickBoxes"),
    *("ChooseFromMenu", "Dialog", "DragSlider", "ScrollToFind", "Calculator", "Flow"),
)
BATCH = 16


@dataclass(frozen=True)
class Seen:
    """A state: the screen (uint8 [H, W, 3]), the text, and what the expert points at now."""

    image: np.ndarray
    text: str
    wanted: Placed


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", nargs="?", default="assets/backbones/tiny")
    arguments.add_argument("--side", type=int, default=96, help="height and width of the screens, in pixels")
    arguments.add_argument("--episodes", type=int, default=50, help="of each task")
    arguments.add_argument("--tasks", nargs="*", default=TASKS, choices=TASKS)
    options = arguments.parse_args()
    backbone = Backbone.load(options.folder).at(options.side)
    eyes = Eyes(backbone, Pointers.load(options.folder, backbone.hidden_size))
    print("| task | what the expert points at, and how often one of the pointers does |\n|---|---|")
    for task in options.tasks:
        hits = eyes.hits(list(walk(task, options.side, options.episodes)))
        told = [f"{kind} {100 * np.mean(each):.0f}% of {len(each)}" for kind, each in sorted(hits.items())]
        print(f"| {task} | {', '.join(told)} |", flush=True)


def walk(task: str, side: int, episodes: int) -> Iterator[Seen]:
    """The states along the expert's paths in which it points at something."""
    made = gymnasium.make(f"vla_rl/Gui{task}-v0", size=(side, side))
    env: GuiEnv = made.unwrapped
    for seed in range(episodes):
        observation, _ = made.reset(seed=seed)
        ended = False
        while not ended:
            gesture = env.task.expert(env.world, env.goal)
            under = [each for each in env.world.reachable() if gesture.at and each.holds(*gesture.at)]
            if under and not gesture.kind.startswith("scroll"):  # which may be done anywhere on a list
                yield Seen(env.world.screenshot(), observation[TASK], under[-1])
            observation, _, terminated, truncated, _ = made.step(env.action(gesture))
            ended = terminated or truncated
    made.close()


@dataclass(frozen=True)
class Eyes:
    """A backbone and its pointers."""

    backbone: Backbone
    pointers: Pointers

    @torch.no_grad()
    def hits(self, walk: Sequence[Seen]) -> dict[str, list[bool]]:
        """By the kind of widget, of each state whether a pointer is where the expert's hand goes."""
        backbone, found = self.backbone, defaultdict[str, list[bool]](list)
        for start in range(0, len(walk), BATCH):
            some = walk[start : start + BATCH]
            images = np.stack([seen.image for seen in some])
            encoded = encode(backbone, images, backbone.prompt([seen.text for seen in some]))
            pointed = self.pointers(encoded.slots_BSD, encoded.visual_BVND, backbone.grid)
            pixels = (pointed.places_BVS2[:, 0, :MENTIONS].numpy() + 1) / 2 * images.shape[1]
            for seen, places in zip(some, pixels, strict=True):
                found[type(seen.wanted.widget).__name__].append(any(seen.wanted.holds(x, y) for x, y in places))
        return found


if __name__ == "__main__":
    main()
