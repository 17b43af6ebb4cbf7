"""Stable-Baselines3's SAC: its own code, replay and networks (NatureCNN beside the numbers)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback

from scripts.agents import course as courses
from scripts.agents.course import Course, Curve, Plan, Seen


@dataclass(frozen=True)
class Settings:
    """Those of SAC that a run may change. image_size: pixels. demos: demonstrations lie in the replay from the start.
    updates_per_step: less than 1: one every so many steps."""

    image_size: int = 64
    demos: bool = False
    learning_rate: float = 3e-4
    buffer_size: int = 200_000
    learning_starts: int = 100
    batch_size: int = 256
    tau: float = 0.005
    gamma: float = 0.99
    updates_per_step: float = 1.0
    ent_coef: str = "auto"


_SOURCE = "stable-baselines3, SAC's defaults (MultiInputPolicy); a replay of 200 000 instead of 1 000 000, never full"
AGENTS: dict[str, tuple[Settings, str]] = {
    "sac": (Settings(), _SOURCE),
    "sac_demos": (replace(Settings(), demos=True), f"{_SOURCE}; demonstrations in the replay from the start"),
}


def train(course: Course, settings: Settings, plan: Plan, curve: Curve) -> None:
    """Learn, and measure."""
    rate = settings.updates_per_step
    model = SAC(
        "MultiInputPolicy",
        course.env(),
        learning_rate=settings.learning_rate,
        buffer_size=settings.buffer_size,
        learning_starts=settings.learning_starts,
        batch_size=settings.batch_size,
        tau=settings.tau,
        gamma=settings.gamma,
        train_freq=max(round(1 / rate), 1),
        gradient_steps=max(round(rate), 1),
        ent_coef=settings.ent_coef,
        seed=course.first_seed,
        device="auto",
    )
    if settings.demos:
        remember(model, course)
    model.learn(plan.steps, callback=Watching(course, plan, curve))


def remember(model: SAC, course: Course) -> None:
    """Put the demonstrations into the replay; one that was cut short says so, as SB3's wrapper does."""
    assert model.replay_buffer is not None
    for episode in course.shown:
        for step in range(len(episode)):
            seen, following = ({key: value[at][None] for key, value in episode.seen.items()} for at in (step, step + 1))
            over = step == len(episode) - 1
            infos: list[dict[str, Any]] = [{"TimeLimit.truncated": over and not episode.terminated[step]}]
            model.replay_buffer.add(
                seen, following, episode.action[step][None], episode.reward[step][None], np.array([over]), infos
            )


class Watching(BaseCallback):
    """Measures where it is due, and ends the run where it is over."""

    def __init__(self, course: Course, plan: Plan, curve: Curve) -> None:
        super().__init__()
        self.course, self.plan, self.curve = course, plan, curve

    def _on_step(self) -> bool:
        courses.watch(self.course, self.plan, self.curve, self._greedy, self.num_timesteps)
        return not self.plan.over(self.curve, self.num_timesteps)

    def _greedy(self, seen: Seen) -> np.ndarray:
        return self.model.predict(seen, deterministic=True)[0]
