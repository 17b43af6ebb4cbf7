"""LeRobot's SAC (HIL-SERL's, without interventions): its own policy, algorithm, replay and trainer, in one process.

Run by .venvs/rivals-lerobot, since LeRobot needs another Python.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.gaussian_actor import GaussianActorConfig
from lerobot.policies.gaussian_actor.modeling_gaussian_actor import GaussianActorPolicy
from lerobot.rl import OnlineOfflineMixer, ReplayBuffer, RLTrainer, SACAlgorithmConfig, make_algorithm
from lerobot.rl.buffer import random_shift
from torch import Tensor

from scripts.agents.course import NUMBERS, PIXELS, Course, Curve, Plan, Seen, Step, play

STATE = "observation.state"
ACTION = "action"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


@dataclass(frozen=True)
class Settings:
    """Those of LeRobot that a run may change. image_size: pixels. online_ratio: of a batch's rows, those from own
    experience. updates_per_step: trainer's steps, each of `utd_ratio` critic updates, for an environment's step."""

    image_size: int = 128
    online_ratio: float = 0.5
    batch_size: int = 256
    updates_per_step: float = 1.0
    utd_ratio: int = 2
    learning_starts: int = 100
    capacity: int = 100_000
    discount: float = 0.97
    temperature_init: float = 0.01
    lr: float = 3e-4
    latent_dim: int = 64
    num_critics: int = 2
    grad_clip_norm: float = 10.0
    std_max: float = 5.0


_SOURCE = (
    "lerobot 0.6.1, its published gym_hil training config (utd_ratio 2, discount 0.97, temperature 0.01, halves); its "
    "own convolutions, trained, instead of the frozen ResNet-10, which is downloaded"
)
AGENTS: dict[str, tuple[Settings, str]] = {
    "lerobot_sac": (Settings(), _SOURCE),
    "lerobot_sac_alone": (replace(Settings(), online_ratio=1.0), f"{_SOURCE}; without demonstrations"),
}


class Bytes(ReplayBuffer):
    """Its replay, with pictures as bytes until they are drawn: a quarter of the memory, the same batches."""

    def _initialize_storage(self, state: dict[str, Tensor], action: Tensor, complementary_info: Any = None) -> None:
        super()._initialize_storage(state, action, complementary_info)
        for kept in (self.states, self.next_states):
            for key, value in kept.items():
                if key != STATE:
                    kept[key] = torch.empty(value.shape, dtype=torch.uint8)


def normalised(pictures: Tensor) -> Tensor:
    """uint8 [B, 3, H, W] as its processor gives them: from 0 to 1, then by ImageNet's mean and spread."""
    mean, std = (each[:, None, None].to(pictures.device) for each in (MEAN, STD))
    return (pictures.float() / 255 - mean) / std


def shifted(pictures: Tensor) -> Tensor:
    """Its augmentation, of pictures that are still bytes."""
    return random_shift(normalised(pictures), pad=4)


def split(seen: Seen) -> dict[str, Tensor]:
    """A batch of observations by LeRobot's keys; pictures uint8 [B, 3, H, W]."""
    cameras = torch.from_numpy(seen[PIXELS]).split(3, dim=1)
    return {f"observation.images.{i}": each for i, each in enumerate(cameras)} | {
        STATE: torch.from_numpy(seen[NUMBERS])
    }


def make(course: Course, settings: Settings) -> tuple[GaussianActorPolicy, Any]:
    """Its policy and its algorithm."""
    channels, height, width = course.shape[PIXELS]
    cameras = {
        f"observation.images.{i}": PolicyFeature(FeatureType.VISUAL, (3, height, width)) for i in range(channels // 3)
    }
    config = GaussianActorConfig(
        input_features=cameras | {STATE: PolicyFeature(FeatureType.STATE, course.shape[NUMBERS])},
        output_features={ACTION: PolicyFeature(FeatureType.ACTION, (course.actions,))},
        device=DEVICE,
        freeze_vision_encoder=False,
        latent_dim=settings.latent_dim,
    )
    config.policy_kwargs.std_max = settings.std_max
    policy = GaussianActorPolicy(config)
    algorithm = SACAlgorithmConfig(
        policy_config=config,
        actor_lr=settings.lr,
        critic_lr=settings.lr,
        temperature_lr=settings.lr,
        discount=settings.discount,
        temperature_init=settings.temperature_init,
        num_critics=settings.num_critics,
        utd_ratio=settings.utd_ratio,
        grad_clip_norm=settings.grad_clip_norm,
    )
    return policy, make_algorithm(algorithm, policy)


class LeRobot:
    """Its trainer, the policy that it teaches, and what that remembers."""

    def __init__(self, course: Course, settings: Settings) -> None:
        torch.manual_seed(course.seed)
        self.policy, algorithm = make(course, settings)
        keys = list(self.policy.config.input_features)
        self.own, demos = buffer(settings.capacity, keys), None
        if settings.online_ratio < 1:
            demos = buffer(sum(map(len, course.shown)), keys)
            for episode in course.shown:
                for i in range(len(episode)):
                    seen, following = ({key: value[at] for key, value in episode.seen.items()} for at in (i, i + 1))
                    add(demos, seen, episode.action[i], episode.reward[i], episode.terminated[i], following)
        mixer = OnlineOfflineMixer(self.own, demos, settings.online_ratio)
        self.trainer = RLTrainer(algorithm, mixer, settings.batch_size)

    def act(self, seen: Seen, env_steps: int) -> np.ndarray:
        return self._decide({key: each[None] for key, each in seen.items()})["action"].cpu().numpy()[0]

    def greedy(self, seen: Seen) -> np.ndarray:
        return self._decide(seen)["action_mean"].tanh().cpu().numpy()

    def remember(self, step: Step) -> None:
        add(self.own, step.seen, step.action, step.reward, step.terminated, step.following)

    def learn(self, env_steps: int) -> None:
        self.trainer.training_step()

    def _decide(self, seen: Seen) -> dict[str, Tensor]:
        """Without dropout: mean before tanh, and a sample."""
        self.policy.eval()
        found = {key: value.to(DEVICE) for key, value in split(seen).items()}
        inputs = {key: value if key == STATE else normalised(value) for key, value in found.items()}
        with torch.no_grad():
            out = self.policy(inputs)
        self.policy.train()
        return out


def train(course: Course, settings: Settings, plan: Plan, curve: Curve) -> None:
    """Act, remember, learn, and measure."""
    play(course, LeRobot(course, settings), plan, curve, settings.updates_per_step, settings.learning_starts)


def buffer(capacity: int, keys: list[str]) -> Bytes:
    """An empty replay."""
    return Bytes(capacity, device=DEVICE, state_keys=keys, image_augmentation_function=shifted)


def add(buffer: ReplayBuffer, seen: Seen, action: np.ndarray, reward: float, terminated: bool, following: Seen) -> None:
    """Remember a step; a time limit is no end, so that its value counts on."""
    state, next_state = (split({key: value[None] for key, value in each.items()}) for each in (seen, following))
    done = bool(terminated)
    buffer.add(state, torch.from_numpy(action)[None], float(reward), next_state, done, truncated=False)
