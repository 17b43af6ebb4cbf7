"""TorchRL's recipe for VLAs, its own script and model: `TinyVLA`, GRPO and `ToyVLAEnv`; measured on our held-out seeds.

Run by .venvs/rivals-torchrl. The task is `toy`; `pa_rl toy` is ours on the same environment.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torchrl
from omegaconf import OmegaConf
from tensordict import NonTensorStack, TensorDict
from torchrl.data.vla import UniformActionTokenizer
from torchrl.envs.utils import ExplorationType, set_exploration_type

from scripts.agents.course import Curve, Plan
from scripts.agents.toy import CHUNK, DECISIONS, Toy
from vla_rl.registry import ConfigError
from vla_rl.specs import HELD_OUT_SEEDS, IMAGES, STATE, TASK

RECIPE = Path(torchrl.__file__).parent.parent / "sota-implementations/vla_grpo"
SETTINGS = Path(__file__).parent / "tiny_vla.yaml"
MEASURED = 10
"""Iterations between measurements, as in their recipe."""


class Over(Exception):  # noqa: N818 (no error)
    """The run has had its steps."""


def train(
    name: str, task: str, seed: int, plan: Plan, path: Path, about: dict[str, Any], changes: Sequence[str]
) -> None:
    """Run their script; KEY=VALUE are of its config."""
    if task != "toy":
        raise ConfigError(f"task: tiny_vla knows TorchRL's toy environment alone, which is called toy; got {task!r}")
    config = OmegaConf.merge(OmegaConf.load(SETTINGS), OmegaConf.from_dotlist([f"env.seed={seed}", *changes]))
    source = f"torchrl {torchrl.__version__}, sota-implementations/vla_grpo, config vla_grpo_toy.yaml"
    settings = OmegaConf.to_container(config)
    curve = Curve(path, about | {"settings": settings, "changed": list(changes), "source": source})
    script = load(RECIPE / "vla-grpo.py")
    watching = Watching(plan, curve, int(config.tokenizer.vocab_size), int(config.collector.total_iters))
    script.log_metrics = watching.after_iteration
    script.sync_policy_server = watching.before_sync(script.sync_policy_server)
    with suppress(Over):
        script.main(config)


def load(file: Path) -> ModuleType:
    """Their script, which imports the files beside it."""
    sys.path.insert(0, str(file.parent))
    spec = importlib.util.spec_from_file_location(file.stem.replace("-", "_"), file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Watching:
    """Stands where their script logs: counts environment steps, measures, and ends the run."""

    def __init__(self, plan: Plan, curve: Curve, bins: int, iterations: int) -> None:
        self.plan, self.curve, self.iterations = plan, curve, iterations
        self.tokenizer = UniformActionTokenizer(bins, low=-1.0, high=1.0)
        self.policy: Any = None
        self.env_steps = 0

    def before_sync(self, sync: Any) -> Any:
        """Their `sync_policy_server`, which also tells us of the policy."""

        def synced(server: Any, policy: Any, **options: Any) -> Any:
            self.policy = policy
            return sync(server, policy, **options)

        return synced

    def after_iteration(self, logger: Any, metrics: dict[str, Any], iteration: int) -> None:
        """Their `log_metrics`."""
        self.env_steps += CHUNK * int(metrics.get("collector/completed_decisions", 0))
        last = iteration + 1 >= self.iterations
        if iteration % MEASURED == 0 or last or self.plan.over(self.curve, self.env_steps):
            with self.curve.pause():
                success = evaluate(self.policy, self.tokenizer, self.plan.episodes)
            self.curve.add(self.env_steps, success)
        if last or self.plan.over(self.curve, self.env_steps):
            raise Over


def evaluate(policy: Any, tokenizer: Any, episodes: int) -> float:
    """Share of greedy successes on the held-out seeds, a chunk a decision."""
    lanes = [Toy() for _ in range(episodes)]
    seen = [lane.reset(seed=seed)[0] for lane, seed in zip(lanes, HELD_OUT_SEEDS, strict=False)]
    going, successes = set(range(episodes)), 0
    for _ in range(DECISIONS):
        chunks = greedy(policy, tokenizer, seen)
        for i in tuple(going):
            for action in chunks[i]:
                seen[i], reward, terminated, truncated, _ = lanes[i].step(action)
                if terminated or truncated:
                    going.discard(i)
                    successes += int(reward > 0)
                    break
    return successes / episodes


def greedy(policy: Any, tokenizer: Any, seen: list[dict[str, Any]]) -> np.ndarray:
    """Chunks of actions, float32 [B, steps, A]."""
    pictures = np.stack([each[f"{IMAGES}front"].transpose(2, 0, 1) for each in seen])
    states = np.stack([each[STATE] for each in seen])
    observation = {"image": torch.from_numpy(pictures), "state": torch.from_numpy(states)}
    texts = NonTensorStack(*(each[TASK] for each in seen))
    batch = TensorDict({"observation": observation, "language_instruction": texts}, [len(seen)])
    with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
        return tokenizer.decode(policy(batch)["vla_action", "tokens"]).numpy()
