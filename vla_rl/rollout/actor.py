"""A trained policy that acts: what evaluation, videos and people's own scripts call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vla_rl import registry
from vla_rl.algorithms.algorithm import Algorithm
from vla_rl.algorithms.configs import PaRl
from vla_rl.models.policy import Policy
from vla_rl.runtime.checkpoint import Place, load_state, locate
from vla_rl.runtime.learner import Learner


class Actor:
    """Greedy decisions, or with `best_of` > 0 the one of the highest Q among so many samples.

    Args:
        algorithm: with a trained policy; with a trained critic too, for `best_of` > 0.
        has_critic: whether its critic was trained, so that Q values mean something.
    """

    def __init__(self, algorithm: Algorithm, best_of: int = 0, has_critic: bool = True) -> None:
        if best_of > 0 and not has_critic:
            raise ValueError(f"eval.best_of={best_of} needs a critic, and this checkpoint holds a policy only; use 0")
        self._algorithm, self._best_of, self._has_critic = algorithm, best_of, has_critic

    @property
    def policy(self) -> Policy:
        """What decides."""
        return self._algorithm.policy

    def __call__(self, observation: dict[str, Any]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Tokens int64 [B, K] for a batched observation, and {"q": float32 [B]} where there is a critic."""
        decision = self._algorithm.act(observation, best_of=max(self._best_of, 1), greedy=self._best_of == 0)
        assert decision.q is not None, "a decision without its value"
        return decision.tokens, {"q": decision.q} if self._has_critic else {}


def load_actor(folder: Path | Place, device: str = "auto", best_of: int = 0, plugins: Sequence[str] = ()) -> Actor:
    """The actor of a checkpoint, by any name that `checkpoint.locate` takes: a run's folder, `last`, a generation.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: `best_of` > 0 from a checkpoint without a critic.
    """
    saved = (folder if isinstance(folder, Place) else locate(folder)).policy
    policy = Policy.from_pretrained(saved, plugins=plugins)
    state_folder = saved.parent / "training_state"
    learner = Learner(device=device)
    if not state_folder.is_dir():
        return Actor(PaRl().build(policy=policy, learner=learner), best_of, has_critic=False)
    state = load_state(state_folder)
    settings = registry.build("algorithms", state["settings"], plugins, f"{state_folder}: settings")
    algorithm = settings.build(policy=policy, learner=learner)
    algorithm.load_critic(state["algorithm"])
    return Actor(algorithm, best_of)
