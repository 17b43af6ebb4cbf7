"""Pictures of environments that a config names, for the stream that all buffers get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from vla_rl import config, envs
from vla_rl.specs import IMAGES


@dataclass(frozen=True)
class Scene:
    """overrides: of the config, naming the environment and its cameras. pictures: recorded at least."""

    overrides: Sequence[str]
    pictures: int


def write(scene: Scene, path: Path, seed: int = 0) -> dict[str, tuple[int, ...]]:
    """Record whole episodes of random actions as .npz: pictures by camera, and where episodes begin; the shapes."""
    env = envs.factory(config.load(scene.overrides, command="bench"))()
    env.action_space.seed(seed)
    pictures: dict[str, list[np.ndarray]] = {}
    begins, count = [], 0
    try:
        while count < scene.pictures:
            begins.append(count)
            first, _ = env.reset(seed=seed + len(begins))
            following = envs.steps(env, lambda seen: env.action_space.sample(), first)
            for observation in chain([first], (step.observation for step in following)):
                for name in (key for key in observation if key.startswith(IMAGES)):
                    pictures.setdefault(name.removeprefix(IMAGES), []).append(np.array(observation[name]))
                count += 1
    finally:
        env.close()
    arrays: dict[str, Any] = {name: np.stack(frames) for name, frames in pictures.items()}
    np.savez(path, begins=np.array(begins), **arrays)
    return {name: array.shape[1:] for name, array in arrays.items()}
