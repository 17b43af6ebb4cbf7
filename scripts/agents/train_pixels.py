"""DrQ-v2 and RLPD, as `pixels` has them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from scripts.agents.course import NUMBERS, PIXELS, Course, Curve, Plan, Seen, Step, play
from scripts.agents.experience import Experience
from scripts.agents.pixels import DRQV2, RLPD, Agent, Settings

_DRQV2 = "github.com/facebookresearch/drqv2, cfgs/config.yaml and task/easy.yaml; one frame, no repeated actions"
_RLPD = "github.com/ikostrikov/rlpd, configs/rlpd_pixels_config.py and README (V-D4RL); one frame, no repeated actions"
AGENTS: dict[str, tuple[Settings, str]] = {
    "drqv2": (DRQV2, _DRQV2),
    "drqv2_demos": (replace(DRQV2, demo_share=0.5), f"{_DRQV2}; half of a batch from demonstrations, as RLPD has it"),
    "rlpd": (RLPD, _RLPD),
    "rlpd_alone": (replace(RLPD, demo_share=0.0), f"{_RLPD}; without demonstrations"),
}


class Pixels:
    """The agent, its experience and its demonstrations."""

    def __init__(self, course: Course, settings: Settings) -> None:
        torch.manual_seed(course.seed)
        self.settings, self.actions = settings, course.actions
        self.rng = np.random.default_rng(course.seed)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.agent = Agent(course.shape[PIXELS], course.shape[NUMBERS][0], course.actions, settings, device)
        self.own = Experience(settings.capacity, settings.gamma, settings.n_step, course.seed)
        kept = sum(len(episode) + 1 for episode in course.shown)
        self.demos = Experience(kept, settings.gamma, settings.n_step, course.seed)
        self.demos.extend(course.shown)
        self.shared = round(settings.demo_share * settings.batch_size)

    def act(self, seen: Seen, env_steps: int) -> np.ndarray:
        if env_steps < self.settings.learning_starts:
            return self.rng.uniform(-1, 1, self.actions).astype(np.float32)
        batch = {key: torch.from_numpy(value[None]) for key, value in seen.items()}
        return self.agent.act(batch, env_steps).numpy()[0]

    def greedy(self, seen: Seen) -> np.ndarray:
        return self.agent.act({key: torch.from_numpy(value) for key, value in seen.items()}, greedy=True).numpy()

    def remember(self, step: Step) -> None:
        self.own.begin(step.seen, step.action, step.reward, step.terminated)
        if step.over:
            self.own.end(step.following)

    def learn(self, env_steps: int) -> None:
        batch = self.own.sample(self.settings.batch_size - self.shared)
        self.agent.update(batch.join(self.demos.sample(self.shared)) if self.shared else batch, env_steps)


def train(course: Course, settings: Settings, plan: Plan, curve: Curve) -> None:
    """Act, remember, learn, and measure."""
    play(course, Pixels(course, settings), plan, curve, settings.updates_per_step, settings.learning_starts)
