"""TorchRL's toy environment of its VLA recipe (`ToyVLAEnv`, tracking mode) as a Gymnasium environment with our keys.

A plugin: `vla-rl train --config-dir scripts/agents/configs 'plugins=[scripts.agents.toy]' experiment=toy`, in this
repository. TorchRL is found in .venvs/rivals-torchrl, which `bash scripts/bench_agents.sh tiny_vla` makes; of its
packages, ours come first where both have one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

from vla_rl.registry import SetupError
from vla_rl.specs import IMAGES, STATE, TASK

ROOT = Path(__file__).resolve().parent.parent.parent
CHUNK, DECISIONS = 4, 6
"""Steps of a decision, and decisions of an episode, in their recipe."""
RECIPE: dict[str, Any] = {
    "action_dim": 2,
    "state_dim": 4,
    "image_shape": (3, 16, 16),
    "success_steps": 2,
    "success_tol": 0.35,
}
"""Of the environment, in their config `vla_grpo_toy.yaml`."""


def toy_vla_env(**settings: Any) -> Any:
    """Their environment. Raises SetupError where TorchRL, 0.14 or newer, is not there."""
    try:
        from torchrl.envs import ToyVLAEnv
    except ImportError:
        sys.path.extend(str(site) for site in ROOT.glob(".venvs/rivals-torchrl/lib/python*/site-packages"))
        try:
            from torchrl.envs import ToyVLAEnv
        except ImportError as error:
            raise SetupError(f"no TorchRL 0.14 or newer: {error}; bash scripts/bench_agents.sh tiny_vla") from error
    return ToyVLAEnv(**RECIPE, **settings)


class Toy(gymnasium.Env):
    """An action has to stay near a target, which the state tells, for two steps; the picture is noise.

    Reward 1 at success, which terminates; 24 steps truncate.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (Gymnasium's)
    return_range = (0.0, 1.0)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.toy = toy_vla_env()
        self.left = 0
        channels, height, width = RECIPE["image_shape"]
        self.action_space = gymnasium.spaces.Box(-1, 1, (RECIPE["action_dim"],), np.float32)
        self.observation_space = gymnasium.spaces.Dict(
            {
                f"{IMAGES}front": gymnasium.spaces.Box(0, 255, (height, width, channels), np.uint8),
                STATE: gymnasium.spaces.Box(-1, 1, (RECIPE["state_dim"],), np.float32),
                TASK: gymnasium.spaces.Text(len(self.toy.instruction), charset=set(self.toy.instruction)),
            }
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.toy._set_seed(seed)  # `set_seed` would seed all of PyTorch, which a learner draws from
        self.left = CHUNK * DECISIONS
        return self._shown(self.toy.reset()), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        asked = self.toy.full_action_spec.zero()
        asked["action"] = torch.from_numpy(np.clip(action, -1, 1).astype(np.float32))
        found = self.toy.step(asked)["next"]
        self.left -= 1
        success = bool(found["success"])
        return self._shown(found), float(success), success, self.left == 0 and not success, {"is_success": success}

    def _shown(self, found: Any) -> dict[str, Any]:
        return {
            f"{IMAGES}front": np.ascontiguousarray(found["observation", "image"].numpy().transpose(1, 2, 0)),
            STATE: found["observation", "state"].numpy().astype(np.float32),
            TASK: self.toy.instruction,
        }


gymnasium.register("torchrl/ToyVLA-v0", entry_point=Toy)
