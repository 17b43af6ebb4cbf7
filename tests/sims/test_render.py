"""Renderers share an OpenGL context, and none sees that the others are there."""

from __future__ import annotations

import threading

import gymnasium
import numpy as np

import sims  # noqa: F401  (registers the environments)
from vla_rl.specs import IMAGES


def make(name: str, size: int) -> gymnasium.Env:
    sensors = [{"type": "camera", "name": "front", "width": size, "height": size}, {"type": "instruction"}]
    return gymnasium.make(f"vla_rl/{name}-v0", sensors=sensors).unwrapped


def film(env: gymnasium.Env, seed: int, steps: int = 3) -> list[np.ndarray]:
    shown = [env.reset(seed=seed)[0]]
    shown += [env.step(np.full(env.action_space.shape, 0.5, np.float32))[0] for _ in range(steps)]
    return [observation[IMAGES + "front"] for observation in shown]


def test_models_and_sizes_in_turn_draw_what_each_draws_alone() -> None:
    kinds = [("Reach", 64), ("Pick", 96), ("Reach", 32), ("Stack", 64)]
    alone = []
    for kind in kinds:
        env = make(*kind)
        alone.append(film(env, seed=5))
        env.close()
    envs = [make(*kind) for kind in kinds]
    shown = [[env.reset(seed=5)[0][IMAGES + "front"]] for env in envs]
    for _ in range(3):
        for env, frames in zip(envs, shown, strict=True):
            observation, *_ = env.step(np.full(env.action_space.shape, 0.5, np.float32))
            frames.append(observation[IMAGES + "front"])
    assert all(np.array_equal(one, other) for one, other in zip(alone, shown, strict=True))
    envs[0].close()  # frees its own, not what the others share
    assert np.array_equal(film(envs[1], seed=5), alone[1])
    for env in envs[1:]:
        env.close()


def test_every_thread_has_a_context_of_its_own() -> None:
    expected = film(make("Reach", 64), seed=9)
    films: dict[int, list[np.ndarray]] = {}

    def draw(number: int) -> None:
        films[number] = film(make("Reach", 64), seed=9, steps=3)

    threads = [threading.Thread(target=draw, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(films) == 3
    assert all(np.array_equal(shown, expected) for shown in films.values())


def test_contexts_come_and_go() -> None:
    first = None
    for _ in range(30):
        env = make("Reach", 32)
        shown = film(env, seed=1, steps=0)
        env.close()
        first = first or shown
        assert np.array_equal(shown, first)
