"""What one file outside of the package adds to a run: a world with its expert, and all that is learnt there with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import gymnasium
import numpy as np
import torch
from torch import Tensor

from sims.observe import Observer
from vla_rl.adaptation.fall import Fall, FallTest
from vla_rl.adaptation.on_shift import Response
from vla_rl.algorithms.algorithm import Algorithm, Decision
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.algorithms.needs import Needs
from vla_rl.models.policy import Policy
from vla_rl.replay import Batch, EndedEpisode, EpisodeListener
from vla_rl.runtime.learner import Learner
from vla_rl.specs import SensorSpec, Signal, Slot

LENGTH = 6
"""Places of the track; the goal is the last one."""


class Track(gymnasium.Env):
    """Walk along a track to its end, a place a step; each step burns fuel, the more the faster it is."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012
    instruction = "go to the end"

    def __init__(self, sensors: Sequence[Any], plugins: Sequence[str] = (), render_mode: str | None = None) -> None:
        self.place, self.steps, self.render_mode = 0, 0, render_mode
        self._observer = Observer(sensors, self, plugins)
        self.observation_space = self._observer.space()
        self.action_space = gymnasium.spaces.Box(-2, 2, (1,))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place, self.steps = int(self.np_random.integers(LENGTH - 2)), 0
        self._observer.begin(self, self.np_random)
        return self._observer.read(self), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place, self.steps = int(np.clip(self.place + action[0], 0, LENGTH)), self.steps + 1
        there = self.place == LENGTH
        info = {"is_success": there, "fuel": abs(float(action[0])) ** 2}
        return self._observer.read(self), float(there), there, self.steps == 2 * LENGTH and not there, info

    def expert_action(self) -> np.ndarray:
        return np.array([min(2, LENGTH - self.place)], np.float32)


gymnasium.register("own/Track-v0", entry_point=Track)


@dataclass(frozen=True)
class Strip:
    """A sensor: the track from above, white where one stands."""

    name: str = "strip"

    def spec(self, world: Any) -> SensorSpec:
        return SensorSpec("image", (8, 8, 3), "uint8")

    def read(self, world: Any) -> np.ndarray:
        picture = np.zeros((8, 8, 3), np.uint8)
        picture[:, world.place] = 255
        return picture


@dataclass(frozen=True)
class Odometer:
    """Another sensor: how far the end is, in places."""

    name: str = "odometer"

    def spec(self, world: Any) -> SensorSpec:
        return SensorSpec("vector", (1,), "float32", "places", 0, LENGTH)

    def read(self, world: Any) -> np.ndarray:
        return np.array([LENGTH - world.place], np.float32)


@dataclass(frozen=True)
class Strides:
    """An action space: one token, from `longest` places back to as many ahead."""

    longest: int = 2

    def bind(self, space: Any) -> Self:
        if space.shape != (1,):
            raise ValueError(f"strides need one number, got {space}")
        return replace(self, longest=min(self.longest, int(space.high[0])))

    @property
    def slots(self) -> tuple[Slot, ...]:
        return (Slot(2 * self.longest + 1, "bin"),)

    def mask(self, prefix: np.ndarray) -> None:
        return None

    def decode(self, tokens: np.ndarray) -> np.ndarray:
        return np.array([int(tokens[0]) - self.longest], np.float32)

    def encode(self, action: np.ndarray) -> np.ndarray:
        return np.array([round(float(action[0])) + self.longest])


@dataclass(frozen=True)
class Frugality(EpisodeListener):
    """A listener: tells of each decision what share of its episode's fuel it burnt."""

    @property
    def columns(self) -> tuple[Signal]:
        return (Signal("share"),)

    def on_episode(self, episode: EndedEpisode) -> dict[str, np.ndarray]:
        fuel = episode.signals["fuel"]
        return {"share": fuel / max(fuel.sum(), 1e-6)}


@dataclass(frozen=True)
class ThriftyCloning:
    """An algorithm's config: imitate what led to the end, the more the less of the fuel it burnt."""

    gamma: float = 0.9
    lr: float = 1e-3
    batch_size: int = 16

    @property
    def needs(self) -> Needs:
        columns = (Signal("sureness"),)
        return Needs(self.batch_size, 0.25, self.gamma, "fail", finished_only=True, following=False, columns=columns)

    def build(self, **parts: Any) -> Algorithm:
        return Thrift(self, **parts)

    def scorer(self, policy: Policy, state: dict[str, Any]) -> None:
        return None


class Thrift:
    """The algorithm itself. updates: how many it has made."""

    scorer = None

    def __init__(self, settings: ThriftyCloning, policy: Policy, learner: Learner, reference: Policy | None) -> None:
        self.settings, self.policy, self.learner = settings, learner.prepare(policy), learner
        self.optimizer = learner.optimizer(policy.trainable_parameters(), settings.lr)
        self.updates = 0

    @torch.no_grad()
    def explore(self, observation: dict[str, Any], lanes: slice | None = None) -> Decision:
        grounded = self.policy.ground(observation)
        logits = self.policy.logits(grounded)
        tokens = self.policy.sample(logits, 1, self.learner.uniform(len(logits[0]), 1, len(self.policy.slots)))
        sureness = self.policy.log_prob(logits, tokens).exp().squeeze(1).cpu().numpy()
        return Decision(tokens.squeeze(1).cpu().numpy(), grounded.pack(), {"sureness": sureness})

    def update(self, batch: Batch) -> dict[str, Tensor]:
        rows = LearnerBatch.of(batch, self.policy, self.learner.device, following=False)
        weight = (rows.returns > 0) * (1 - rows.extra["share"])
        log_prob = self.policy.log_prob(rows.grounded, rows.labels.unsqueeze(1)).squeeze(1)
        loss = -(weight * log_prob).mean()
        self.learner.step(loss, self.optimizer, 1.0)
        self.updates += 1
        told = {name: rows.extra[name].float().mean() for name in ("fuel", "share", "sureness")}
        return {"thrift/loss": loss.detach(), **{f"thrift/{name}": value for name, value in told.items()}}

    def priorities(self) -> Tensor:
        return torch.ones(self.settings.batch_size)

    def anneal(self, done: float) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.updates = state["updates"]


class Every(FallTest):
    """Takes every ninth value for a fall."""

    def add(self, value: float) -> Fall | None:
        super().add(value)
        return self._found() if len(self._values) == 9 else None


@dataclass(frozen=True)
class Eager:
    """Adapts again and again, however all goes."""

    @property
    def skip(self) -> int:
        return 1

    def tests(self, processes: int) -> dict[str, FallTest]:
        return {"success": Every(0.01)}

    def response(self, since: int | None) -> Response:
        return Response() if since is None else Response(0.3, 0.5, 0.5, 1.0, 0.5, weigh=True)
