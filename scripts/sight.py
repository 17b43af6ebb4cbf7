"""How well a backbone's pointers see the things that the table-top tasks name, and the gripper's tip.

Usage: .venv/bin/python -m scripts.sight [FOLDER] [--side 96] [--states 250] [--tasks Push Place ...]

States along the expert's noisy paths, on training seeds. Of each thing named, in the order of its mention, and of the
tip, with each camera: the median distance in 64ths of the picture, and how often it is more than 3 of them, over the
states in which the camera shows at least four pixels of it.
"""

from __future__ import annotations

import argparse
from collections import defaultdict

import gymnasium
import numpy as np
import torch

import sims  # noqa: F401  (registers the environments)
from sims.mujoco.world import World
from vla_rl.actions.expert import expert_action
from vla_rl.envs import steps
from vla_rl.grounding.pretrain import encode
from vla_rl.models.backbone import Backbone
from vla_rl.models.pointers import Pointers
from vla_rl.specs import IMAGES, TASK

TASKS = (
    *("Reach", "Push", "ArmReach", "ArmPush", "Pick", "Place", "Stack", "OpenDrawer", "PressInOrder", "InsertPeg"),
    "TidyUp",
)
CAMERAS = ("front", "side")
TIP = "tip"
FAR, PIXELS = 3.0, 64
"""What counts as missed, in units of the picture's PIXELS-th part."""
LEAST_SHOWN = 4
"""Pixels of a picture of PIXELS that show a thing which is seen."""
NOISE = 0.5
"""Of the actions, so that states off the expert's path are among those that are asked about."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", nargs="?", default="assets/backbones/tiny")
    arguments.add_argument("--side", type=int, default=64, help="height and width of the pictures, in pixels")
    arguments.add_argument("--states", type=int, default=250, help="of each task")
    arguments.add_argument("--tasks", nargs="*", default=TASKS, choices=TASKS)
    options = arguments.parse_args()
    backbone = Backbone.load(options.folder).at(options.side)
    pointers = Pointers.load(options.folder, backbone.hidden_size)
    print("| task | " + " | ".join(["first thing", "second", "third", TIP]) + " |")
    for task in options.tasks:
        found = errors(backbone, pointers, task, options.states)
        cells = [_cell(found, name) for name in ("0", "1", "2", TIP)]
        print(f"| {task} | " + " | ".join(cells) + " |", flush=True)


def errors(backbone: Backbone, pointers: Pointers, task: str, states: int) -> dict[tuple[str, str], np.ndarray]:
    """Distances [n] in PIXELS-ths of the picture, by slot ("0", "1", ... or "tip") and camera."""
    side = backbone.image_size
    cameras = [{"type": "camera", "name": name, "width": side, "height": side} for name in CAMERAS]
    env = gymnasium.make(f"vla_rl/{task}-v0", sensors=[*cameras, {"type": "instruction"}])
    rng, seed, count = np.random.default_rng(0), 0, 0
    apart: dict[tuple[str, str], list[float]] = defaultdict(list)
    while count < states:
        observation, _ = env.reset(seed=seed)
        seed += 1

        def act(_: object) -> np.ndarray:
            noise = rng.normal(0, NOISE, env.action_space.shape)
            return np.clip(expert_action(env) + noise, -1, 1).astype(np.float32)

        for step in steps(env, act, observation):
            # Every third, so that the states are of many episodes.
            if rng.random() < 1 / 3 and count < states:
                _ask(backbone, pointers, env, step.observation, apart)
                count += 1
    env.close()
    return {key: np.array(values) for key, values in apart.items()}


@torch.no_grad()
def _ask(
    backbone: Backbone,
    pointers: Pointers,
    env: gymnasium.Env,
    observation: dict,
    apart: dict[tuple[str, str], list[float]],
) -> None:
    """Note how far each pointer is from what it should point at."""
    images = np.stack([observation[IMAGES + camera] for camera in CAMERAS])
    encoded = encode(backbone, images, backbone.prompt([observation[TASK]] * len(CAMERAS)))
    places = pointers(encoded.slots_BSD, encoded.visual_BVND, backbone.grid).places_BVS2[:, 0].cpu().numpy()
    world: World = env.unwrapped.world
    named = {str(i): _centre(world, slot) for i, slot in enumerate(env.unwrapped.goal.slots)}
    pointed = {name: int(name) for name in named} | {TIP: -1}
    shown = {str(i): slot for i, slot in enumerate(env.unwrapped.goal.slots)}
    for i, camera in enumerate(CAMERAS):
        pixels = world.pixels_of(camera, PIXELS, PIXELS)
        for name, point in (named | {TIP: world.tip_position}).items():
            true = world.project(camera, point)
            seen = name == TIP or pixels.get(shown[name], np.zeros(0)).sum() >= LEAST_SHOWN
            if seen and np.abs(true).max() < 1:
                distance = float(np.linalg.norm(places[i, pointed[name]] - true) * PIXELS / 2)
                apart[name, camera].append(distance)


def _centre(world: World, slot: str) -> np.ndarray:
    """Where the centre of what a slot shows lies [3]: of a drawer, its front's."""
    if world.shown[slot].shape == "cabinet":
        return world.part_position(slot, "front")
    return world.object_position(slot)


def _cell(found: dict[tuple[str, str], np.ndarray], name: str) -> str:
    told = [found[name, camera] for camera in CAMERAS if (name, camera) in found]
    return " / ".join(f"{np.median(each):.2f}, {100 * np.mean(each > FAR):.0f}%" for each in told) or "-"


if __name__ == "__main__":
    main()
