"""How well a backbone's pointers see the things that the table-top tasks name, and the gripper's tip.

Usage: .venv/bin/python -m scripts.sight [FOLDER] [--side 96] [--states 250] [--episodes 0] [--noise 0.5] [--tasks ...]

States along the expert's noisy paths, on training seeds. Of each thing named, in the order of its mention, and of the
tip, with each camera: the median distance in 64ths of the picture, and how often it is more than 3 of them, over the
states in which the camera shows at least four pixels of it. With --episodes, over all states of so many episodes, and
once more for a policy that remembers (`policy.remembers`); and of both how often they are so far off and sure.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import gymnasium
import numpy as np
import torch

import sims  # noqa: F401  (registers the environments)
from sims.mujoco.things import DARK
from sims.mujoco.world import World
from vla_rl.actions.expert import expert_action
from vla_rl.envs import steps
from vla_rl.grounding.pretrain import encode
from vla_rl.models.backbone import Backbone
from vla_rl.models.pointers import MENTIONS, Pointers, peaks
from vla_rl.models.remembered import PEAKS, followed, shape, updated
from vla_rl.specs import IMAGES, TASK

TASKS = (
    *("Reach", "Push", "ArmReach", "ArmPush", "Pick", "Place", "Stack", "OpenDrawer", "PressInOrder", "InsertPeg"),
    "TidyUp",
)
CAMERAS = ("front", "side")
TIP = "tip"
FAR, PIXELS = 3.0, 64
"""What counts as missed, in units of the picture's PIXELS-th part."""
BELIEVED, SURELY = 0.5, ", and sure"
"""Confidence from which on a pointer counts as sure, and the name of what is so."""
LEAST_SHOWN = 4
"""Pixels of a picture of PIXELS that show a thing which is seen."""

Places = dict[tuple[str, str], np.ndarray]
"""By slot ("0", "1", ... or "tip") and camera, a place [2] in [-1, 1]."""
Errors = dict[tuple[str, str], list[float]]
"""By slot and camera, distances in PIXELS-ths of the picture."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", nargs="?", default="assets/backbones/tiny")
    arguments.add_argument("--side", type=int, default=64, help="height and width of the pictures, in pixels")
    arguments.add_argument("--states", type=int, default=250, help="of each task")
    arguments.add_argument("--episodes", type=int, default=0, help="of each task, instead of states")
    arguments.add_argument("--noise", type=float, default=0.5, help="of the actions, to leave the expert's path")
    arguments.add_argument("--tasks", nargs="*", default=TASKS, choices=TASKS)
    options = arguments.parse_args()
    backbone = Backbone.load(options.folder).at(options.side)
    eyes = Eyes(backbone, Pointers.load(options.folder, backbone.hidden_size))
    print("| task | " + " | ".join(["first thing", "second", "third", TIP]) + " |")
    for task in options.tasks:
        seen = walk(task, options.side, options.noise)
        for name, found in eyes.errors(seen, options.states, options.episodes).items():
            cells = [_cell(found, slot, SURELY in name) for slot in ("0", "1", "2", TIP)]
            print(f"| {task}{name} | " + " | ".join(cells) + " |", flush=True)


@dataclass(frozen=True)
class Seen:
    """A state: of which episode, what the cameras show of it (uint8 [C, H, W, 3]), the text, and what is where."""

    episode: int
    images: np.ndarray
    text: str
    true: Places


def walk(task: str, side: int, noise: float) -> Iterator[Seen]:
    """The states along the expert's paths, episode by episode, without an end."""
    cameras = [{"type": "camera", "name": name, "width": side, "height": side} for name in CAMERAS]
    env = gymnasium.make(f"vla_rl/{task}-v0", sensors=[*cameras, {"type": "instruction"}])
    rng, seed = np.random.default_rng(0), 0

    def act(_: object) -> np.ndarray:
        strayed = expert_action(env) + rng.normal(0, noise, env.action_space.shape)
        return np.clip(strayed, -1, 1).astype(np.float32)

    try:
        while True:
            observation, _ = env.reset(seed=seed)
            for step in steps(env, act, observation):
                images = np.stack([step.observation[IMAGES + camera] for camera in CAMERAS])
                yield Seen(seed, images, step.observation[TASK], _true(env))
            seed += 1
    finally:
        env.close()


def _true(env: gymnasium.Env) -> Places:
    """Where what is named, and the tip, lie in the cameras that show them. A button whose lamp is out is left out:
    nothing tells it from another one."""
    world: World = env.unwrapped.world
    named = enumerate(env.unwrapped.goal.slots)
    slots = {str(i): slot for i, slot in named if not world.is_painted(slot, DARK)}
    points = {name: _centre(world, slot) for name, slot in slots.items()} | {TIP: world.tip_position}
    found = {}
    for camera in CAMERAS:
        pixels = world.pixels_of(camera, PIXELS, PIXELS)
        for name, point in points.items():
            place = world.project(camera, point)
            shown = name == TIP or pixels.get(slots[name], np.zeros(0)).sum() >= LEAST_SHOWN
            if shown and np.abs(place).max() < 1:
                found[name, camera] = place
    return found


def _centre(world: World, slot: str) -> np.ndarray:
    """Where the centre of what a slot shows lies [3]: of a drawer, its front's."""
    if world.shown[slot].shape == "cabinet":
        return world.part_position(slot, "front")
    return world.object_position(slot)


@dataclass(frozen=True)
class Eyes:
    """A backbone and its pointers."""

    backbone: Backbone
    pointers: Pointers

    def errors(self, walk: Iterator[Seen], states: int, episodes: int) -> dict[str, Errors]:
        """Of the pointers (""), at every third state; or at all of `episodes`, and of what is remembered then."""
        found: dict[str, Errors] = {"": defaultdict(list)}
        if not episodes:
            rng = np.random.default_rng(0)
            for _ in range(states):
                seen = next(each for each in walk if rng.random() < 1 / 3)  # so that the states are of many episodes
                _note(found[""], self.point(seen)[0], seen.true)
            return found
        remembered = ", remembered"
        found |= {name + surely: defaultdict(list) for surely in ("", SURELY) for name in ("", remembered)}
        before, episode = torch.zeros(1, *shape(len(CAMERAS))), 0
        for seen in walk:
            if seen.episode >= episodes:
                return found
            before, episode = (torch.zeros_like(before) if seen.episode > episode else before), seen.episode
            places, possible, sure = self.point(seen)
            before = updated(before, possible[None], sure[None])
            corrected, believed = (each[0] for each in followed(before, possible[None, ..., 0, :2], sure[None]))
            things = {key: place for key, place in seen.true.items() if key[0] != TIP}
            _note(found[""], places, seen.true)
            _note(found[SURELY], places, things, sure)
            _note(found[remembered], corrected.numpy(), things)
            _note(found[remembered + SURELY], corrected.numpy(), things, believed)
        return found

    @torch.no_grad()
    def point(self, seen: Seen) -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
        """The places [C, S, 2]; and of what is mentioned, the possible ones [C, M, P, 3] and confidences [C, M]."""
        backbone = self.backbone
        encoded = encode(backbone, seen.images, backbone.prompt([seen.text] * len(CAMERAS)))
        pointed = self.pointers(encoded.slots_BSD, encoded.visual_BVND, backbone.grid)
        possible = peaks(pointed, backbone.grid, PEAKS)[:, 0, :MENTIONS]
        sure = pointed.confidence_logit_BVS[:, 0, :MENTIONS].sigmoid()
        return pointed.places_BVS2[:, 0].numpy(), possible, sure


def _note(errors: Errors, places: np.ndarray, true: Places, sure: torch.Tensor | None = None) -> None:
    """How far each of the places [C, S, 2] is from the true one; the tip's is that of the last slot.

    sure: confidences [C, M]; what is not believed is not off.
    """
    for (name, camera), place in true.items():
        view, slot = CAMERAS.index(camera), -1 if name == TIP else int(name)
        believed = sure is None or bool(sure[view, slot] > BELIEVED)
        errors[name, camera].append(believed * float(np.linalg.norm(places[view, slot] - place) * PIXELS / 2))


def _cell(found: Errors, name: str, share: bool) -> str:
    told = [np.array(found[name, camera]) for camera in CAMERAS if (name, camera) in found]
    medians = ["" if share else f"{np.median(each):.2f}, " for each in told]
    return " / ".join(f"{m}{100 * np.mean(each > FAR):.1f}%" for m, each in zip(medians, told, strict=True)) or "-"


if __name__ == "__main__":
    main()
