"""A trained policy that acts: what evaluation, videos and people's own scripts call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vla_rl import registry
from vla_rl.actions import horizon
from vla_rl.algorithms.acting import best_of as best_by
from vla_rl.algorithms.actor_critic_config import AlgorithmConfig
from vla_rl.algorithms.algorithm import Scorer
from vla_rl.envs.history import joined
from vla_rl.models import transfer
from vla_rl.models.forward import Forward
from vla_rl.models.graphs import recorder
from vla_rl.models.policy import Policy
from vla_rl.rollout.hub import fetched
from vla_rl.rollout.rows import Row, as_actions, as_batch
from vla_rl.runtime.checkpoint import Place, load_state, locate
from vla_rl.runtime.hardware import DTYPES, check_device, use_tensor_cores
from vla_rl.specs import POINTERS, REMEMBERED, TASK


class Actor:
    """A policy and how it decides: greedily, with `best_of` > 0 by the critic among the greedy decision and so many
    samples (`algorithms.acting.best_of`), or else, where not `greedy`, by one sample.

    Args:
        policy: decides, where its weights lie.
        scorer: tells what decisions are worth; None where nothing was trained that does.
        seed: of the samples. cuda_graphs: whether decisions are recorded and replayed on CUDA, see `graphs`.

    Raises:
        ValueError: `best_of` > 0 without a scorer.
    """

    def __init__(
        self,
        policy: Policy,
        scorer: Scorer | None = None,
        best_of: int = 0,
        seed: int = 0,
        greedy: bool = True,
        cuda_graphs: bool = False,
    ) -> None:
        self.policy = policy
        self.scorer, self._best_of, self._greedy = scorer, best_of, greedy
        self._check(best_of)
        self._forward = Forward(policy, recorder(policy.device, cuda_graphs))
        self._generator = torch.Generator().manual_seed(seed)
        self._rows: list[Row] = []

    def act(
        self,
        observation: Mapping[str, Any],
        *,
        task: str | Sequence[str] | None = None,
        episode_start: bool | Sequence[bool] | np.ndarray = False,
        best_of: int | None = None,
        greedy: bool | None = None,
        seed: int | None = None,
    ) -> Any:
        """The action to take, for one environment or for several.

        The frames before, what a policy remembers, and the rest of a chunk of actions are kept from call to call: say
        where an episode begins, by `reset()` or `episode_start`. Another number of environments than before begins
        anew.

        Args:
            observation: as an environment shows it: `observation.images.<camera>` uint8 [H, W, 3],
                `observation.state` [P] and `task`, a text; or a batch of them, as `gymnasium.vector` shows them.
            task: the instruction, or one of each environment, in place of what the observation says.
            episode_start: whether the observation is the first of its episode; of a batch, of all or of each.
            best_of, greedy: in place of the actor's own. seed: begins the samples anew.

        Returns:
            An action of the environment's own `action_space`; of a batch, all of them as `gymnasium.vector` takes them.

        Raises:
            ValueError: the observation lacks something, or it is of another shape; `best_of` > 0 without a critic.
        """
        best_of = self._best_of if best_of is None else best_of
        self._check(best_of)
        if seed is not None:
            self._generator.manual_seed(seed)
        batch, single = as_batch(observation, self.policy.cameras, task)
        if len(self._rows) != len(batch[TASK]):
            self._rows = [Row(self.policy.settings.stack) for _ in batch[TASK]]
        for row, starts in zip(self._rows, np.broadcast_to(episode_start, len(self._rows)), strict=True):
            if starts:
                row.begin()
        due = {number: row for number, row in enumerate(self._rows) if not row.waiting}
        if due:
            seen = [row.look({key: value[i : i + 1] for key, value in batch.items()}) for i, row in due.items()]
            for row, chunk in zip(due.values(), self.decide(list(due.values()), seen, best_of, greedy), strict=True):
                row.waiting.extend(chunk)
        actions = [row.waiting.popleft() for row in self._rows]
        return actions[0] if single else as_actions(actions)

    def decide(
        self,
        rows: Sequence[Row],
        seen: Sequence[dict[str, Any]],
        best_of: int | None = None,
        greedy: bool | None = None,
    ) -> list[tuple[Any, ...]]:
        """What is to be done in each of several episodes, decided together: the actions of a chunk, or one action.

        rows: what is kept of each; it takes in what the policy remembers of this. seen: what `Row.look` gave for each.
        """
        best_of = self._best_of if best_of is None else best_of
        tokens, told = self._decide(joined(seen), best_of, self._greedy if greedy is None else greedy)
        noted, space = told.get(REMEMBERED), self.policy.action_space
        for place, row in enumerate(rows):
            row.history.remember(None if noted is None else noted[place : place + 1])
        decoded = [space.decode(each) for each in tokens]
        return [tuple(each) if horizon(space) > 1 else (each,) for each in decoded]

    def reset(self) -> None:
        """Forget what was seen: new episodes begin."""
        self._rows = []

    def __call__(self, observation: dict[str, Any]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Tokens int64 [B, K] for a batched observation, and what is known of them; `act` is for people.

        That is "q" float32 [B], where there is a scorer; where the policy remembers, `specs.REMEMBERED`, to be put
        into the next observation of the same episodes; and for each camera, under `specs.POINTERS` and its name, where
        the policy points, float32 [B, S, 3]: x and y in [-1, 1] and how surely it sees what the text mentions first,
        second, ..., and its own hand last.
        """
        return self._decide(observation, self._best_of, self._greedy)

    @torch.no_grad()
    def _decide(
        self, observation: dict[str, Any], best_of: int, greedy: bool
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        policy, scorer, q = self.policy, self.scorer, None
        features, logits = self._forward(observation)
        grounded = features if scorer is None or policy.frozen_trunk else policy.ground(observation)
        if best_of > 0 and scorer is not None:
            tokens, q = best_by(policy, scorer, grounded, logits, self._noise(len(features), best_of))
        else:
            if greedy:
                tokens = policy.greedy(logits)
            else:
                tokens = policy.sample(logits, 1, self._noise(len(features), 1)).squeeze(1)
            if scorer is not None:
                q = scorer(grounded, tokens.unsqueeze(1)).squeeze(1)
        pointed = features.pointed(len(policy.cameras))
        told = transfer.fetched({"tokens": tokens, "q": q, REMEMBERED: features.remembered, POINTERS: pointed})
        found = told.pop("tokens"), told.pop(POINTERS)
        told |= {f"{POINTERS}{camera}": found[1][:, number] for number, camera in enumerate(self.policy.cameras)}
        return found[0], {name: value for name, value in told.items() if value is not None}

    def _check(self, best_of: int) -> None:
        if best_of > 0 and self.scorer is None:
            raise ValueError(f"eval.best_of={best_of} needs a critic, and this checkpoint holds a policy only; use 0")

    def _noise(self, rows: int, samples: int) -> torch.Tensor:
        noise = torch.rand(rows, samples, len(self.policy.slots), generator=self._generator)
        return transfer.sent(noise.clamp_(1e-6, 1.0 - 1e-6), self.policy.device)


def load(
    source: str | Path,
    *,
    device: str = "auto",
    best_of: int = 0,
    greedy: bool = True,
    seed: int = 0,
    plugins: Sequence[str] = (),
    revision: str | None = None,
) -> Actor:
    """A trained policy, ready to act: `load("outputs/quickstart/rl").act(observation)`.

    Args:
        source: a run's folder, any of its checkpoints, a folder of `Policy.save_pretrained`, or a hub id `owner/name`.
        device: "auto" (CUDA where there is one), "cpu" or "cuda".
        best_of: by default, decide by the critic among so many samples; 0 for the policy alone.
        greedy: by default, without `best_of`, the most likely decision rather than a sample. seed: of the samples.
        plugins: modules of yours whose classes the policy needs, such as an action space.
        revision: of the hub's repository: a branch, a tag or a commit.

    Raises:
        FileNotFoundError: there is no such checkpoint, or the hub cannot be asked for it.
        ValueError: damaged files; `best_of` > 0 from a checkpoint without a critic; a device that is not there.
    """
    return load_actor(fetched(source, revision), device, best_of, plugins, seed=seed, greedy=greedy)


def load_actor(
    folder: str | Path | Place,
    device: str = "auto",
    best_of: int = 0,
    plugins: Sequence[str] = (),
    mixed_precision: str = "no",
    seed: int = 0,
    greedy: bool = True,
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
    use_tensor_cores(policy.device)
    trained = saved_algorithm(saved, plugins)
    if trained is None:
        return Actor(policy, None, best_of, seed, greedy)
    settings, state = trained
    return Actor(policy, settings.scorer(policy, state), best_of, seed, greedy)


def saved_algorithm(policy_folder: Path, plugins: Sequence[str] = ()) -> tuple[AlgorithmConfig, dict[str, Any]] | None:
    """The settings and the state of the algorithm that trained the policy of a checkpoint; None where none did."""
    folder = policy_folder.parent / "training_state"
    if not folder.is_dir():
        return None
    state = load_state(folder)
    if not isinstance(state.get("settings"), dict) or not isinstance(state.get("algorithm"), dict):
        raise ValueError(f"{folder}: lacks the settings or the state of an algorithm")
    return registry.build("algorithms", state["settings"], plugins, f"{folder}: settings"), state["algorithm"]
