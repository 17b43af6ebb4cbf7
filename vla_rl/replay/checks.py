"""What may enter replay: the lanes and every value of new rows are checked here before any is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vla_rl.replay.columns import FEATURE, SIGNAL, ColumnSpecs
from vla_rl.replay.ring import Ring
from vla_rl.specs import REMEMBERED, STATE, TASK


class Given(NamedTuple):
    """The arguments of `ReplayBuffer.add`, as they came."""

    observation: Mapping[str, Any]
    tokens: Any
    reward: Any
    terminated: Any
    truncated: Any
    final: Any
    features: Mapping[str, Any]
    labels: Any
    demo: Any
    signals: Mapping[str, Any]


class Rows(NamedTuple):
    """New rows: columns by name, frames uint8 [L, H, W, 3] by camera key, and the instructions."""

    columns: dict[str, np.ndarray]
    frames: dict[str, np.ndarray]
    texts: list[str]


def checked_lanes(lanes: np.ndarray | Sequence[int] | None, count: int) -> np.ndarray:
    """`lanes` as int64 [L], all of the `count` there are for None.

    Raises:
        ValueError: a lane twice, or one that there is not.
    """
    if lanes is None:
        return np.arange(count)
    lane = np.asarray(lanes, np.int64)
    if lane.ndim != 1 or len(np.unique(lane)) != len(lane) or ((lane < 0) | (lane >= count)).any():
        raise ValueError(f"lanes: expected distinct lanes in [0, {count}), got {lane.tolist()}")
    return lane


def check_order(ring: Ring, lane: np.ndarray, final: np.ndarray) -> None:
    """Raise ValueError where the next rows of lanes int64 [L], which may be `final`, bool [L], are not that, or are."""
    wrong = ring.wrong(lane, final)
    if len(wrong):
        got = bool(final[lane == wrong[0]][0])
        raise ValueError(
            f"final: expected {not got} for lane {wrong[0]}, got {got}: a row is final exactly where the lane's row "
            "before it terminated or was truncated"
        )


def checked_rows(
    given: Given, count: int, specs: ColumnSpecs, images: Mapping[str, tuple[int, int, int]], choices: int
) -> Rows:
    """`count` new rows, of the right dtypes.

    A final row's tokens, labels, reward, signals, terminated and truncated come back as zeros.

    Raises:
        ValueError: names the key, what was expected and what came.
    """
    flag = np.dtype(bool)
    rows = {"final": checked("final", given.final, (count,), flag, exact=True)}
    acts = ~rows["final"]
    for name, value in (("terminated", given.terminated), ("truncated", given.truncated)):
        rows[name] = checked(name, value, (count,), flag, exact=True) & acts
    demo = np.full(count, given.demo) if np.ndim(given.demo) == 0 else given.demo
    rows["demo"] = checked("demo", demo, (count,), flag, exact=True)
    rows["reward"] = checked("reward", given.reward, (count,), np.dtype(np.float32), exact=False) * acts
    rows["tokens"] = rows["labels"] = _checked_tokens("tokens", given.tokens, acts, specs["tokens"], choices)
    if given.labels is not None:
        rows["labels"] = _checked_tokens("labels", given.labels, acts, specs["labels"], choices)
    for name, (shape, dtype) in specs.items():
        if name.startswith(FEATURE):
            key = name.removeprefix(FEATURE)
            value = _required(given.features, key, "features.")
            rows[name] = checked(f"features.{key}", value, (count, *shape), dtype, exact=False)
        elif name.startswith(SIGNAL):
            rows[name] = _checked_signal(given.signals, name.removeprefix(SIGNAL), acts, (shape, dtype))
    frames = {
        key: checked(key, _required(given.observation, key), (count, *shape), np.dtype(np.uint8), exact=True)
        for key, shape in images.items()
    }
    shape, dtype = specs["state"]
    state = _required(given.observation, STATE) if shape[0] else np.zeros((count, 0), np.float32)
    rows["state"] = checked(STATE, state, (count, *shape), dtype, exact=False)
    if "remembered" in specs:
        shape, dtype = specs["remembered"]
        remembered = _required(given.observation, REMEMBERED)
        rows["remembered"] = checked(REMEMBERED, remembered, (count, *shape), dtype, exact=False)
    return Rows(rows, frames, _checked_texts(_required(given.observation, TASK), count))


def checked(key: str, value: Any, shape: tuple[int, ...], dtype: np.dtype, *, exact: bool) -> np.ndarray:
    """`value` as an array of `shape` and `dtype`, finite.

    `exact` demands the dtype itself; otherwise every dtype that fits up to its width will do.

    Raises:
        ValueError: names the key, what was expected and what came.
    """
    array = np.asarray(value)
    if array.shape != shape:
        raise ValueError(f"{key}: expected shape {list(shape)}, got {list(array.shape)}")
    if array.dtype != dtype:
        if exact or not np.can_cast(array.dtype, dtype, "same_kind"):
            raise ValueError(f"{key}: expected dtype {dtype}, got {array.dtype}")
        with np.errstate(over="ignore"):
            array = array.astype(dtype)
    if dtype.kind == "f" and not np.isfinite(array).all():
        rows = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1)).tolist()
        raise ValueError(f"{key}: expected finite {dtype}, got NaN or infinity in row(s) {rows}")
    return array


def _checked_signal(
    signals: Mapping[str, Any], name: str, acts: np.ndarray, spec: tuple[tuple[int, ...], np.dtype]
) -> np.ndarray:
    """What was told of each row; 0 of final ones, and where nothing was."""
    shape, dtype = spec
    if name not in signals:
        return np.zeros((len(acts), *shape), dtype)
    value = checked(f"signals.{name}", signals[name], (len(acts), *shape), dtype, exact=False)
    return np.where(acts.reshape(-1, *[1] * len(shape)), value, dtype.type(0))


def _checked_tokens(
    name: str, value: Any, acts: np.ndarray, spec: tuple[tuple[int, ...], np.dtype], choices: int
) -> np.ndarray:
    tokens = checked(name, value, (len(acts), *spec[0]), np.dtype(np.int64), exact=False) * acts[:, None]
    if tokens.size and not 0 <= tokens.min() <= tokens.max() < choices:
        wrong = tokens[(tokens < 0) | (tokens >= choices)]
        raise ValueError(f"{name}: expected tokens in [0, {choices}), got {wrong[0]}")
    return tokens.astype(spec[1])


def _checked_texts(value: Any, count: int) -> list[str]:
    texts = [value] if isinstance(value, str) else list(value)
    if len(texts) != count or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{TASK}: expected {count} str, got {len(texts)}: {texts[:3]!r}")
    return [str(text) for text in texts]


def _required(mapping: Mapping[str, Any], key: str, prefix: str = "") -> Any:
    if key not in mapping:
        raise ValueError(f"{prefix}{key}: missing; got {', '.join(map(str, mapping)) or 'nothing'}")
    return mapping[key]
