"""A trained policy that acts: what evaluation, videos and people's own scripts call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vla_rl import registry
from vla_rl.algorithms.acting import best_of
from vla_rl.algorithms.algorithm import Scorer
from vla_rl.algorithms.configs import AlgorithmConfig
from vla_rl.models.policy import Policy
from vla_rl.runtime.checkpoint import Place, load_state, locate
from vla_rl.runtime.learner import DTYPES, check_device
from vla_rl.specs import POINTERS, REMEMBERED


class Actor:
    """A policy and how it decides: greedily, or with `best_of` > 0 by the highest Q among so many samples.

    Args:
        policy: decides, where its weights lie.
        scorer: tells what decisions are worth; None where nothing was trained that does.
        seed: of the samples.

    Raises:
        ValueError: `best_of` > 0 without a scorer.
    """

    def __init__(self, policy: Policy, scorer: Scorer | None = None, best_of: int = 0, seed: int = 0) -> None:
        if best_of > 0 and scorer is None:
            raise ValueError(f"eval.best_of={best_of} needs a critic, and this checkpoint holds a policy only; use 0")
        self.policy = policy
        self._scorer, self._best_of = scorer, best_of
        self._generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def __call__(self, observation: dict[str, Any]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Tokens int64 [B, K] for a batched observation, and what is known of them.

        That is "q" float32 [B], where there is a scorer; where the policy remembers, `specs.REMEMBERED`, to be put
        into the next observation of the same episodes; and for each camera, under `specs.POINTERS` and its name, where
        the policy points, float32 [B, S, 3]: x and y in [-1, 1] and how surely it sees what the text mentions first,
        second, ..., and its own hand last.
        """
        grounded = self.policy.ground(observation)
        features = grounded if self.policy.frozen_trunk else self.policy.encode(observation)
        if self._best_of == 0:
            tokens = self.policy.greedy(features).unsqueeze(1)
        else:
            tokens = self.policy.sample(features, self._best_of, self._noise(len(features)))
        told = {} if (noted := features.noted) is None else {REMEMBERED: noted}
        pointed = features.pointed(len(self.policy.cameras))
        told |= {f"{POINTERS}{camera}": pointed[:, number] for number, camera in enumerate(self.policy.cameras)}
        if self._scorer is None:
            return tokens[:, 0].cpu().numpy(), told
        best, q = best_of(self._scorer, grounded, tokens)
        return best.cpu().numpy(), {"q": q.cpu().numpy(), **told}

    def _noise(self, rows: int) -> torch.Tensor:
        noise = torch.rand(rows, self._best_of, len(self.policy.slots), generator=self._generator)
        return noise.clamp_(1e-6, 1.0 - 1e-6).to(self.policy.device)


def load_actor(
    folder: str | Path | Place,
    device: str = "auto",
    best_of: int = 0,
    plugins: Sequence[str] = (),
    mixed_precision: str = "no",
) -> Actor:
    """The actor of a checkpoint, by any name that `checkpoint.locate` takes: a run's folder, `last`, a generation.

    device: "auto" (CUDA where there is one), "cpu" or "cuda". mixed_precision: "no", "bf16" or "fp16".

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: `best_of` > 0 from a checkpoint without a critic; a device that is not there.
    """
    check_device(device)
    saved = (folder if isinstance(folder, Place) else locate(Path(folder))).policy
    policy = Policy.from_pretrained(saved, plugins=plugins)
    policy.mixed_precision = DTYPES[mixed_precision]
    policy.to("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    trained = saved_algorithm(saved, plugins)
    if trained is None:
        return Actor(policy, best_of=best_of)
    settings, state = trained
    return Actor(policy, settings.scorer(policy, state), best_of)


def saved_algorithm(policy_folder: Path, plugins: Sequence[str] = ()) -> tuple[AlgorithmConfig, dict[str, Any]] | None:
    """The settings and the state of the algorithm that trained the policy of a checkpoint; None where none did."""
    folder = policy_folder.parent / "training_state"
    if not folder.is_dir():
        return None
    state = load_state(folder)
    if not isinstance(state.get("settings"), dict) or not isinstance(state.get("algorithm"), dict):
        raise ValueError(f"{folder}: lacks the settings or the state of an algorithm")
    return registry.build("algorithms", state["settings"], plugins, f"{folder}: settings"), state["algorithm"]
