"""Acting in a vector of environments, and remembering."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from vla_rl.algorithms.parl import Decision
from vla_rl.history import FrameHistory
from vla_rl.log import Log
from vla_rl.replay import ReplayBuffer
from vla_rl.specs import check_training_seed


class Collector:
    """Steps a vector of environments with a policy, and writes every observation to replay once.

    The environments reset in the step after an episode's end (`AutoresetMode.NEXT_STEP`), so an episode's final
    observation passes through `step` like any other and becomes its final row.

    Args:
        envs: environments that take tokens int64 [K].
        replay: with one lane for each environment.
        seed: of the first lane's first reset, the next lane's is one more; all training seeds.
    """

    def __init__(self, envs: VectorEnv, replay: ReplayBuffer, seed: int, recent: int = 100) -> None:
        self.envs, self.replay = envs, replay
        lanes = envs.num_envs
        observation, _ = envs.reset(seed=check_training_seed(seed, lanes))
        self._observation: dict[str, Any] = observation
        self._final = np.zeros(lanes, bool)
        self._fresh = np.ones(lanes, bool)
        self._history = FrameHistory(replay.stack)
        self._recent: deque[bool] = deque(maxlen=recent)
        self.episodes = 0

    @property
    def success_rate(self) -> float:
        """Share of successes among the latest episodes; NaN before the first."""
        return float(np.mean(self._recent)) if self._recent else float("nan")

    def step(self, act: Callable[[dict[str, Any]], Decision], log: Log) -> int:
        """One decision in every environment; returns how many transitions that made."""
        observation, final = self._observation, self._final
        with log.timed("act"):
            decision = act(self._history.push(observation, self._fresh))
        with log.timed("step"):
            following, reward, terminated, truncated, info = self.envs.step(decision.tokens)
        self.replay.add(
            observation=observation,
            tokens=decision.tokens,
            reward=np.asarray(reward, np.float32),
            terminated=terminated,
            truncated=truncated,
            final=final,
            features=decision.features,
        )
        ended = (terminated | truncated) & ~final
        self._recent.extend(info["is_success"][ended].tolist() if ended.any() else ())
        self.episodes += int(ended.sum())
        self._observation, self._final, self._fresh = following, ended, final
        return int((~final).sum())

    def statistics(self) -> dict[str, float]:
        """Of the latest episodes, for the log."""
        return {"train/success_rate": self.success_rate, "train/episodes": float(self.episodes)}

    def close(self) -> None:
        self.envs.close()
