"""Demonstrations on disk: written whole, read back with every claim checked.

A folder holds `meta.json` and one `episode_000000.npz` an episode (plain arrays, never pickled):
one array a key of the observation with T + 1 entries (images uint8, state float32), `action` [T, ...]
that was executed, `label` [T, ...] that the expert would have done there, `reward` float32 [T],
`terminated` and `truncated` bool [T]. Seeds and the tasks' texts are in `meta.json`: of each episode one text, or,
where tools answered, one for each of its T + 1 observations. And the SHA-256 of each file, and its own.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from vla_rl.envs import ObservationShape
from vla_rl.envs.history import stacked_times
from vla_rl.paths import check_digests, digests_in, sealed
from vla_rl.specs import STATE, TASK, kept_text, readable

FORMAT = "vla_rl/demonstrations"
VERSION = 1
_HEADER = 4096  # bytes that an .npy header may take beside its data
_DENSEST = 1040  # bytes that deflate makes of one, at most
_NPY = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_DAMAGE = (
    OSError, EOFError, KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError,
    zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip
_OUTCOME = {"reward": np.float32, "terminated": np.bool_, "truncated": np.bool_}


class DemonstrationError(ValueError):
    """Demonstrations that cannot be read or do not fit; the message names the file and the key."""


@dataclass(frozen=True)
class Episode:
    """One demonstration of T steps.

    `observations`: key -> [T + 1, ...], images uint8 and state float32, the last entry the episode's
    own last observation. `action`, `label` [T, ...]: what was executed, and the expert's clean action in
    the same state. `reward` float32 [T]; `terminated`, `truncated` bool [T], True at most at the end.
    `tasks`: T + 1 texts.
    """

    tasks: tuple[str, ...]
    seed: int
    observations: dict[str, np.ndarray]
    action: np.ndarray
    label: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray

    def __len__(self) -> int:
        return len(self.reward)

    def observation(self, index: np.ndarray | Sequence[int], stack: int = 1) -> dict[str, Any]:
        """The batched observation of some time steps (0 to T): arrays [B, ...] and B texts.

        With `stack` > 1 images are [B, stack, H, W, 3], older frames first.
        """
        index = np.asarray(index, np.int64)
        frames = stacked_times(index, stack) if stack > 1 else index
        columns = {key: value[index if key == STATE else frames] for key, value in self.observations.items()}
        return columns | {TASK: [self.tasks[i] for i in index]}


@dataclass(frozen=True)
class Demonstrations:
    """Episodes of one environment, and where they came from (`meta`: env, noise, seed, tried)."""

    episodes: tuple[Episode, ...]
    shape: ObservationShape
    meta: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.episodes)

    def __iter__(self) -> Iterator[Episode]:
        return iter(self.episodes)

    @property
    def steps(self) -> int:
        """Simulator steps in all episodes together."""
        return sum(map(len, self.episodes))


def save(demonstrations: Demonstrations, folder: Path) -> Path:
    """Write a new folder of demonstrations: whole, or not at all.

    Raises:
        FileExistsError: something lies at `folder` already; nothing is overwritten.
    """
    with new_folder(Path(folder)) as temporary:
        for number, episode in enumerate(demonstrations.episodes):
            np.savez_compressed(temporary / _file(number), allow_pickle=False, **_arrays(episode))
        first = demonstrations.episodes[0].action
        meta = demonstrations.meta | {
            "format": FORMAT,
            "version": VERSION,
            "images": {key: list(shape) for key, shape in demonstrations.shape.images.items()},
            "state": demonstrations.shape.state,
            "action": {"shape": list(first.shape[1:]), "dtype": first.dtype.str},
            "episodes": [_row(episode) for episode in demonstrations.episodes],
        }
        _write_meta(temporary / "meta.json", sealed(meta, temporary, sorted(temporary.glob("*.npz"))))
    return Path(folder)


def append(demonstrations: Demonstrations, folder: Path) -> Path:
    """Add episodes to a folder of demonstrations. Whatever interrupts it, those listed before stay as they were.

    Raises:
        DemonstrationError: what lies there cannot be read, or is of other observations, actions or of another
            environment.
    """
    folder = Path(folder)
    there = load(folder, demonstrations.shape)
    wanted = there.meta.get("env"), there.meta["action"]
    for episode in demonstrations.episodes:
        action = {"shape": list(episode.action.shape[1:]), "dtype": episode.action.dtype.str}
        if (demonstrations.meta.get("env"), action) != wanted:
            raise DemonstrationError(
                f"{folder}: holds demonstrations of {wanted[0]} with actions {wanted[1]}, not of "
                f"{demonstrations.meta.get('env')} with actions {action}; name another folder"
            )
    for number, episode in enumerate(demonstrations.episodes, len(there)):
        part = folder / f".{_file(number)}.{os.getpid()}.npz"  # savez insists on the ending
        np.savez_compressed(part, allow_pickle=False, **_arrays(episode))
        os.replace(part, folder / _file(number))
    rows = [_row(episode) for episode in (*there.episodes, *demonstrations.episodes)]
    part = folder / f".meta.json.{os.getpid()}"
    listed = [folder / _file(number) for number in range(len(rows))]
    _write_meta(part, sealed(there.meta | {"episodes": rows}, folder, listed))
    os.replace(part, folder / "meta.json")
    return folder


def load(folder: str | Path, expected: ObservationShape | None = None) -> Demonstrations:
    """The demonstrations in `folder`; with `expected`, only if they hold the observations that a run needs.

    Raises:
        DemonstrationError: see `scan`; or there are no episodes.
    """
    shape, meta, episodes = scan(folder, expected)
    found = tuple(episodes)
    if not found:
        raise DemonstrationError(f"{Path(folder) / 'meta.json'}: holds no episodes")
    return Demonstrations(found, shape, meta)


def scan(
    folder: str | Path, expected: ObservationShape | None = None
) -> tuple[ObservationShape, dict[str, Any], Iterator[Episode]]:
    """What `load` returns in parts: the episodes are read one by one, when they are asked for.

    Raises:
        DemonstrationError: a file or key is missing, damaged, of a wrong shape or dtype, or the cameras
            or the state are not the expected ones. The message names the file and the key.
    """
    folder = Path(folder)
    meta = _read_meta(folder / "meta.json")
    with naming(folder / "meta.json"):
        shape = ObservationShape({key: tuple(size) for key, size in meta["images"].items()}, int(meta["state"]))
        action = np.dtype(meta["action"]["dtype"]), tuple(meta["action"]["shape"])
        rows = [(_texts(row), int(row["seed"]), int(row["length"])) for row in meta["episodes"]]
    digests = _digests(folder / "meta.json", meta)
    if action[0].kind not in "biuf":
        raise DemonstrationError(f"{folder / 'meta.json'}: action: dtype {action[0]} is not a plain number")
    if expected is not None:
        check_fit(shape, expected, folder)

    def episodes() -> Iterator[Episode]:
        for number, (texts, seed, length) in enumerate(rows):
            if (name := _file(number)) in digests and (folder / name).is_file():
                _check(folder, {name: digests[name]})
            arrays = _read_arrays(folder / _file(number), _wanted(length, shape, *action))
            observations = {key: arrays.pop(key) for key in list(arrays) if key in shape.images or key == STATE}
            tasks = (texts,) * (length + 1) if isinstance(texts, str) else texts
            yield Episode(tasks=tasks, seed=seed, observations=observations, **arrays)

    return shape, meta, episodes()


def check_fit(shape: ObservationShape, expected: ObservationShape, folder: Path) -> None:
    """Raises DemonstrationError, naming the key, where recorded observations are not those expected."""
    keys = {**shape.images, STATE: (shape.state,)}
    wanted = {**expected.images, STATE: (expected.state,)}
    for key in sorted(keys.keys() | wanted.keys()):
        got = keys.get(key, "nothing")
        want = wanted.get(key, "nothing")
        if got != want:
            raise DemonstrationError(
                f"{folder}: {key}: recorded {got}, but the run's environment gives {want}; "
                "record demonstrations with the run's own sensors (`vla-rl demos` with the same config)"
            )


def _file(number: int) -> str:
    return f"episode_{number:06d}.npz"


def _row(episode: Episode) -> dict[str, Any]:
    tasks = list(episode.tasks) if len(set(episode.tasks)) > 1 else episode.tasks[0]
    return {TASK: tasks, "seed": episode.seed, "length": len(episode)}


def _texts(row: Mapping[str, Any]) -> str | tuple[str, ...]:
    """The text of all observations that `_row` wrote, or one of each. Raises ValueError where they do not suffice."""
    count, tasks = int(row["length"]) + 1, row[TASK]
    if isinstance(tasks, str):
        return kept_text(tasks, TASK)
    if len(tasks) != count:
        raise ValueError(f"{TASK}: {len(tasks)} texts for {count} observations")
    return tuple(kept_text(str(text), TASK) for text in tasks)


def _write_meta(path: Path, meta: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(meta, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _arrays(episode: Episode) -> dict[str, np.ndarray]:
    rest = {key: getattr(episode, key) for key in ("action", "label", *_OUTCOME)}
    return {**episode.observations, **rest}


def _wanted(length: int, shape: ObservationShape, dtype: np.dtype, action: tuple[int, ...]) -> dict[str, Any]:
    """What an episode's file must hold: key -> (dtype, shape)."""
    wanted: dict[str, Any] = {key: (np.dtype(np.uint8), (length + 1, *size)) for key, size in shape.images.items()}
    if shape.state:
        wanted[STATE] = (np.dtype(np.float32), (length + 1, shape.state))
    wanted |= {key: (dtype, (length, *action)) for key in ("action", "label")}
    return wanted | {key: (np.dtype(kind), (length,)) for key, kind in _OUTCOME.items()}


def _read_meta(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DemonstrationError(
            f"{path}: no such file; is {path.parent} a folder of demonstrations, as `vla-rl demos` records? "
            "demos.episodes=0 does without"
        )
    with naming(path):
        meta = json.loads(path.read_text("utf-8"))
    found = (meta.get("format"), meta.get("version")) if isinstance(meta, dict) else None
    if found != (FORMAT, VERSION):
        raise DemonstrationError(f"{path}: expected format {FORMAT!r}, version {VERSION}, found {found}")
    return meta


def _digests(path: Path, meta: Mapping[str, Any]) -> dict[str, str]:
    """Those of the episodes' files; none where an older version wrote them, or somebody took the seal away."""
    try:
        return digests_in(path, meta) or {}
    except ValueError as error:
        raise DemonstrationError(f"{error}; where you changed it yourself, remove its entry 'sha256'") from error


def _check(folder: Path, digests: Mapping[str, str]) -> None:
    try:
        check_digests(folder, digests)
    except ValueError as error:
        raise DemonstrationError(str(error)) from error


def _read_arrays(path: Path, wanted: Mapping[str, tuple[np.dtype, tuple[int, ...]]]) -> dict[str, np.ndarray]:
    """The arrays of one file, each checked; sizes are checked before anything is unpacked."""
    if not path.is_file():
        raise DemonstrationError(f"{path}: no such file, though meta.json lists this episode")
    arrays = {}
    with naming(path), zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        size = path.stat().st_size
        for key, (dtype, shape) in wanted.items():
            if key not in members:
                raise DemonstrationError(f"{path}: lacks the key {key!r}; it holds {sorted(members)}")
            told, room = members[key].file_size, dtype.itemsize * math.prod(shape)
            if not room <= told <= room + _HEADER or told > _DENSEST * size + _HEADER:
                raise DemonstrationError(
                    f"{path}: {key}: {told} bytes, in a file of {size}, cannot be {dtype} {list(shape)}"
                )
            with archive.open(members[key]) as stream:
                array = _read_npy(stream, key, dtype, shape)
            if dtype.kind == "f" and not np.isfinite(array).all():
                raise DemonstrationError(f"{path}: {key}: holds values that are not finite")
            arrays[key] = array
        if (arrays["terminated"] | arrays["truncated"])[:-1].any():
            raise DemonstrationError(f"{path}: terminated, truncated: the episode goes on after its end")
    return arrays


def _read_npy(stream: IO[bytes], key: str, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """An array of just this dtype and shape; its header is read before any memory is taken.

    Raises:
        ValueError: it is another one, or is cut short, or longer.
    """
    version = np.lib.format.read_magic(stream)
    if version not in _NPY:
        raise ValueError(f"{key}: .npy of version {version}")
    found, transposed, kind = _NPY[version](stream)
    if (kind, found) != (dtype, shape):
        raise ValueError(f"{key}: expected {dtype} {list(shape)}, got {kind} {list(found)}")
    array = np.empty(shape[::-1] if transposed else shape, dtype)
    content = stream.read(array.nbytes + 1)  # to the end, where zipfile looks at the checksum
    if len(content) != array.nbytes:
        raise ValueError(f"{key}: expected {array.nbytes} bytes of numbers, got {len(content)} or more")
    array.reshape(-1).view(np.uint8)[:] = np.frombuffer(content, np.uint8)
    return array.T if transposed else array


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn what a damaged file raises into an error that names it."""
    try:
        yield
    except DemonstrationError:
        raise
    except _DAMAGE as error:
        reason = f"lacks the key {error}" if isinstance(error, KeyError) else str(error)
        raise DemonstrationError(f"{path}: damaged or incomplete: {readable(reason, 500)}") from error


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its name once the block ends well."""
    if folder.exists():
        raise FileExistsError(f"{folder} exists already; name another folder, or remove it first")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.parent / f".{folder.name}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
