"""A whole replay as a LeRobotDataset, and back: tokens, outcomes, and which rows were demonstrated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vla_rl.data.decisions import Decisions, remember
from vla_rl.data.files import DemonstrationError
from vla_rl.data.lerobot.demonstrations import frames_of, to_episode
from vla_rl.data.lerobot.layout import (
    ACTION,
    DEMO,
    FINAL,
    LABEL,
    LABEL_TOKENS,
    REWARD,
    SIGNAL,
    SUCCESS,
    TERMINATED,
    TOKENS,
    TRUNCATED,
    Limits,
    Mode,
)
from vla_rl.data.lerobot.read import Dataset
from vla_rl.data.lerobot.write import writing
from vla_rl.envs import ObservationShape
from vla_rl.replay import Ground, ReplayBuffer
from vla_rl.specs import IMAGES, REMEMBERED, STATE, TASK

Act = Callable[[np.ndarray], np.ndarray]
"""The tokens int64 [K] of a decision -> the numbers [A] that the environment was given."""


def write_replay(
    replay: ReplayBuffer | Sequence[ReplayBuffer],
    folder: Path,
    act: Act | None = None,
    mode: Mode = "image",
    fps: float = 10,
    limits: Limits | None = None,
    meta: dict[str, Any] | None = None,
) -> int:
    """Write every finished episode of a replay, or of several, to a new dataset, oldest first; how many there were.

    A row becomes a frame with `tokens` and `label_tokens`, and with `act` also `action` and `label`; signals are called
    `signal.<name>`. An episode counts as a success where its rewards sum up to more than 0. Cached features are left
    out; they can be computed again.

    Raises:
        FileExistsError, ValueError, SetupError: see `writing`; a ValueError where no episode has ended.
    """
    with writing(folder, mode, fps, limits) as writer:
        for each in [replay] if isinstance(replay, ReplayBuffer) else replay:
            for ids in each.episodes():
                seen = each.observations(ids)
                tasks = seen.pop(TASK)
                seen.pop(REMEMBERED, None)  # it follows from the rest
                if each.stack > 1:
                    seen |= {key: value[:, -1] for key, value in seen.items() if key.startswith(IMAGES)}
                rows = each.recorded(ids[:-1])
                steps = {TOKENS: rows["tokens"].astype(np.int64), LABEL_TOKENS: rows["labels"].astype(np.int64)}
                if act is not None:
                    acts = {ACTION: steps[TOKENS], LABEL: steps[LABEL_TOKENS]}
                    steps |= {key: np.stack([np.ravel(act(row)) for row in tokens]) for key, tokens in acts.items()}
                steps |= {REWARD: rows["reward"], TERMINATED: rows["terminated"], TRUNCATED: rows["truncated"]}
                steps[DEMO] = rows["demo"]
                steps |= {SIGNAL + signal.name: rows[signal.name] for signal in each.signals}
                steps[SUCCESS] = (np.arange(len(ids) - 1) == len(ids) - 2) & (rows["reward"].sum() > 0)
                writer.add(frames_of(seen, steps), tasks)
        writer.own = meta or {}
        return writer.episodes


def read_replay(folder: str | Path, replay: ReplayBuffer, shape: ObservationShape, ground: Ground | None = None) -> int:
    """Put every episode of a dataset with `tokens` into a replay of one lane; how many there were.

    shape: the replay's observations. ground: as of `vla_rl.data.fill`.

    Raises:
        DemonstrationError: see `Dataset.episodes`; or an episode that does not end.
        ValueError: the replay is of other observations or tokens; names the key.
    """
    dataset = Dataset.open(folder)
    keys = [*shape.images, *([STATE] if shape.state else [])]
    keys += [TOKENS, LABEL_TOKENS, REWARD, TERMINATED, TRUNCATED, FINAL, DEMO]
    told = [signal for signal in replay.signals if SIGNAL + signal.name in dataset.features]
    keys += [SIGNAL + signal.name for signal in told]
    count = 0
    for recorded in dataset.episodes(keys):
        columns, length = recorded.columns, len(recorded.tasks) - 1
        tokens, labels = (columns[key][:length].reshape(length, -1) for key in (TOKENS, LABEL_TOKENS))
        columns |= {ACTION: columns[TOKENS], LABEL: columns[LABEL_TOKENS]}
        episode = to_episode(recorded, shape, tokens.shape[1:], tokens.dtype)
        if not (episode.terminated[-1] or episode.truncated[-1]):
            raise DemonstrationError(f"{recorded.path}: episode {count} has no end, so that no replay can hold it")
        when = np.arange(length + 1)
        decisions = Decisions(when, tokens, labels, episode.reward, episode.terminated, episode.truncated)
        signals = {
            each.name: columns[SIGNAL + each.name][:length].reshape(length, *each.shape).astype(each.dtype)
            for each in told
        }
        remember(replay, episode, decisions, ground, demo=columns[DEMO][:length], signals=signals)
        count += 1
    return count
