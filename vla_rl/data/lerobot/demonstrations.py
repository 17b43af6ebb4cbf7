"""Demonstrations as a LeRobotDataset, and back; others' datasets as demonstrations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from vla_rl.data.files import DemonstrationError, Demonstrations, Episode, check_fit
from vla_rl.data.flat import pack
from vla_rl.data.lerobot import layout
from vla_rl.data.lerobot.layout import ACTION, FINAL, LABEL, REWARD, SUCCESS, TERMINATED, TRUNCATED, Limits, Mode
from vla_rl.data.lerobot.read import Dataset, Recorded
from vla_rl.data.lerobot.write import writing
from vla_rl.envs import ObservationShape
from vla_rl.specs import IMAGES, STATE

_OUTCOME: dict[str, type] = {REWARD: np.float32, TERMINATED: np.bool_, TRUNCATED: np.bool_, SUCCESS: np.bool_}


def write_demonstrations(
    episodes: Iterable[Episode],
    folder: Path,
    mode: Mode = "image",
    fps: float = 10,
    limits: Limits | None = None,
    meta: Mapping[str, Any] | None = None,
) -> int:
    """Write demonstrations, each of which counts as a success, to a new dataset; how many there were.

    An episode of T steps becomes T + 1 frames, see `frames_of`. meta: more to keep, such as their environment.

    Raises:
        FileExistsError, ValueError, SetupError: see `writing`, and `Writer.add`.
    """
    with writing(folder, mode, fps, limits) as writer:
        for episode in episodes:
            own = {"action": {"shape": list(episode.action.shape[1:]), "dtype": episode.action.dtype.name}}
            writer.own = {**(meta or {}), **own}
            acts = {ACTION: episode.action, LABEL: episode.label}
            columns = acts | {
                REWARD: episode.reward,
                TERMINATED: episode.terminated,
                TRUNCATED: episode.truncated,
                SUCCESS: np.arange(len(episode)) == len(episode) - 1,
            }
            writer.add(frames_of(episode.observations, columns), episode.tasks, seed=episode.seed)
        return writer.episodes


def frames_of(observations: Mapping[str, np.ndarray], steps: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns [T + 1, ...] of an episode, of its T + 1 observations and of what happened in its T steps.

    The last frame, where `final` is True, is the observation that the episode ended with. Nothing was done there: it
    repeats the last action, the reward and what else was the outcome are 0, and `next.done` and `next.success` are
    the episode's own.
    """
    columns = {key: value for key, value in observations.items() if value[0].size}
    for key, value in steps.items():
        last = np.zeros_like(value[-1:]) if key in (REWARD, TERMINATED, TRUNCATED) else value[-1:]
        columns[key] = np.concatenate([value, last])
    done = steps[TERMINATED] | steps[TRUNCATED]
    count = len(done) + 1
    return columns | {layout.DONE: np.append(done, done[-1]), FINAL: np.arange(count) == count - 1}


def load(
    folder: str | Path, expected: ObservationShape | None = None, actions: gymnasium.Space | None = None
) -> Demonstrations:
    """The successful episodes of a dataset, all at once; see `episodes`.

    Raises:
        DemonstrationError: see `episodes`; or no episode is a success.
    """
    dataset = Dataset.open(folder)
    shape = _shape(dataset, expected)
    found = tuple(episodes(dataset, shape, actions))
    if not found:
        raise DemonstrationError(f"{dataset.folder}: none of the {dataset.count} episodes is a success")
    first = found[0].action
    action = {"shape": list(first.shape[1:]), "dtype": first.dtype.str}
    return Demonstrations(found, shape, {**dataset.own, "action": action})


def episodes(
    dataset: Dataset,
    expected: ObservationShape | None = None,
    actions: gymnasium.Space | None = None,
    successes: bool = True,
) -> Iterator[Episode]:
    """The episodes of a dataset one by one; only those that `next.success` does not deny, if `successes`.

    A dataset that others wrote says less. Where `final` is missing, the last observation is taken for the one that
    the last action led to, too. Without `next.reward`, the reward is 1 at the end of a success, else 0; without
    `next.success` every episode is one. An episode without `next.terminated` terminates where it succeeds, and is
    truncated where it does not. Without `label`, what was done is what was right.

    Args:
        expected: the observations that a run needs; other cameras are left out. actions: of the run's environment,
            whose actions the dataset's numbers become; without it they stay as they were written.

    Raises:
        DemonstrationError: see `Dataset.episodes`; or a camera, the state or the action is missing or of another shape.
    """
    shape = _shape(dataset, expected)
    feature, packed = dataset.feature(ACTION), None if actions is None else pack(actions.sample(), actions)
    if packed is not None and packed.size != np.prod(feature.shape):
        raise DemonstrationError(
            f"{dataset.folder / layout.INFO}: {ACTION}: recorded {feature.shape}, but the run's environment takes "
            f"{packed.shape}"
        )
    keys = [*shape.images, *([STATE] if shape.state else []), ACTION]
    keys += [key for key in (LABEL, FINAL, *_OUTCOME) if key in dataset.features]
    for recorded in dataset.episodes(keys):
        if successes and not recorded.columns.get(SUCCESS, np.ones(1, bool)).any():
            continue
        yield to_episode(recorded, shape, *_kind(dataset, packed))


def to_episode(recorded: Recorded, shape: ObservationShape, action: tuple[int, ...], dtype: np.dtype) -> Episode:
    """An episode with actions of this shape and dtype. Raises DemonstrationError where it goes on after its end."""
    columns, tasks = recorded.columns, recorded.tasks
    whole = FINAL in columns
    count = len(tasks) - whole

    def acts(key: str) -> np.ndarray:
        return columns[key][:count].reshape(count, *action).astype(dtype)

    # The last observation once more, where what followed it is not known.
    pictured = {key: columns[key] for key in shape.images}
    seen = pictured | ({STATE: columns[STATE].reshape(len(tasks), -1).astype(np.float32)} if shape.state else {})
    outcome = _outcome({key: columns[key][:count] for key in _OUTCOME if key in columns}, count)
    if not count or (outcome[TERMINATED] | outcome[TRUNCATED])[:-1].any():
        raise DemonstrationError(f"{recorded.path}: episode {recorded.row['episode_index']} goes on after its end")
    return Episode(
        tasks=tasks if whole else (*tasks, tasks[-1]),
        seed=_seed(recorded),
        observations={key: each if whole else np.concatenate([each, each[-1:]]) for key, each in seen.items()},
        action=acts(ACTION),
        label=acts(LABEL if LABEL in columns else ACTION),
        reward=outcome[REWARD],
        terminated=outcome[TERMINATED],
        truncated=outcome[TRUNCATED],
    )


def _seed(recorded: Recorded) -> int:
    """The seed that the episode began with; -1 where nobody knows."""
    told = recorded.row.get("seed", -1)
    try:
        return int(told)
    except (TypeError, ValueError) as error:
        number = recorded.row["episode_index"]
        raise DemonstrationError(f"{recorded.path}: episode {number}: seed {told!r} is no whole number") from error


def _outcome(known: Mapping[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """The outcome of each of `count` steps, with what is not known filled in as `episodes` says."""
    outcome: dict[str, np.ndarray] = {key: known[key].reshape(count).astype(_OUTCOME[key]) for key in known}
    last = np.arange(count) == count - 1
    success = last & outcome.get(SUCCESS, np.ones(1, bool)).any()
    outcome.setdefault(REWARD, success.astype(np.float32))
    if TERMINATED not in outcome:
        outcome |= {TERMINATED: success, TRUNCATED: last & ~success}
    return {TRUNCATED: np.zeros(count, bool)} | outcome


def _kind(dataset: Dataset, packed: np.ndarray | None) -> tuple[tuple[int, ...], np.dtype]:
    """The shape and dtype of actions: those of the run's environment, or as they were before they were written."""
    feature = dataset.feature(ACTION)
    if packed is not None:
        return packed.shape, packed.dtype
    own = dataset.own.get("action", {"shape": feature.shape, "dtype": feature.dtype})
    return tuple(own["shape"]), np.dtype(own["dtype"])


def _shape(dataset: Dataset, expected: ObservationShape | None) -> ObservationShape:
    """What is read of a dataset. Raises DemonstrationError where that is not what is expected."""
    images = {key: each.shape for key, each in dataset.features.items() if each.is_picture and key.startswith(IMAGES)}
    state = dataset.features.get(STATE)
    there = ObservationShape(images, int(np.prod(state.shape)) if state else 0)
    if expected is None:
        return there
    kept = {key: shape for key, shape in images.items() if key in expected.images}
    found = ObservationShape(kept, there.state if expected.state else 0)
    for key in expected.images:
        dataset.feature(key)
    check_fit(found, expected, dataset.folder / layout.INFO)
    return found
