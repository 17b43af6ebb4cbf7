"""Checkpoints that survive a kill at any moment, and the rule that a folder holds one run at a time.

    <run>/.lock                             who writes here
    <run>/checkpoints/<step>/               a generation: complete, and never changed again
        pretrained_model/  training_state/  its parts; of a run in several processes, the others' besides
        manifest.json                       size and SHA-256 of every file; written last
    <run>/checkpoints/last -> <step>        moved when the generation is whole; a file that names it where the disk
                                            knows no links

A generation is written beside its place under a hidden name, flushed to the disk, and renamed. What a part links from
the generation before costs neither bytes nor time: a file that never changes is digested and flushed once.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from safetensors import SafetensorError

from vla_rl.config.compose import CONFIG_FILE
from vla_rl.paths import flush
from vla_rl.registry import ConfigError
from vla_rl.runtime.serialization import load_entry, load_state, rng_state, save_state, seed_all, set_rng_state

__all__ = [
    "DamagedError",
    "Generation",
    "Place",
    "claim",
    "last",
    "latest",
    "load_entry",
    "load_state",
    "locate",
    "policy_folder",
    "rng_state",
    "save",
    "save_state",
    "seed_all",
    "set_rng_state",
    "starting",
    "verify",
]

CHECKPOINTS, LAST, LOCK, MANIFEST = "checkpoints", "last", ".lock", "manifest.json"
POLICY = "pretrained_model"
MADE_AT_START = ("tracker", "replay")
"""The folders that a start makes beside the config: of the tracker, and of coded frames."""
UNFINISHED = ".part-"
"""Prefix of what is being written or deleted; whatever a killed run left of it is swept by the next save."""
UNSUPPORTED = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}
"""What file systems answer that know no links, or no locks."""
_STEP = re.compile(r"\d{6,}")


Agree = Callable[[bool], bool]
"""Whether all processes of a run are well, by what each says of itself; all of them call it, and each waits for all."""


class DamagedError(ValueError):
    """A checkpoint's file is missing, cut short or altered. The message names it."""


class Run(Protocol):
    """What `claim` needs of a run's config."""

    @property
    def run_dir(self) -> Path | None: ...

    @property
    def resume(self) -> bool: ...

    def save(self, folder: Path) -> Path: ...


@dataclass(frozen=True)
class Generation:
    """A whole checkpoint. folder: holds one folder a part. step: when it was made."""

    folder: Path
    step: int


@dataclass(frozen=True)
class Place:
    """Where a checkpoint lies.

    policy: the folder of its saved policy. generation, run_dir: what holds it; None for a policy that stands alone.
    """

    policy: Path
    generation: Generation | None
    run_dir: Path | None


# Writing ----------------------------------------------------------------------------------------------


def save(
    run_dir: Path,
    step: int,
    parts: Mapping[str, Callable[[Path], object]],
    keep: int | None = None,
    agree: Agree | None = None,
) -> Path:
    """Write a generation: each part's function writes its files into the folder that it is given.

    Whenever the process dies, either the generations from before or the new one too are whole. A whole
    generation of this step that is there already is kept as it is. With `keep`, older generations beyond
    that number (this one included) are deleted afterwards.

    Of several processes only the first writes. With `agree` all of them call this, each with parts of names of its
    own: the generation holds the parts of all, or is not made at all.

    Returns:
        The generation's folder.

    Raises:
        OSError: the disk is full or failing, here or in another process; what was begun is gone, what was there before
            is not. The message names the path.
        ValueError: `keep` below 1, or a negative step.
    """
    if step < 0 or (keep is not None and keep < 1):
        raise ValueError(f"expected step >= 0 and keep >= 1, got step {step} and keep {keep}")
    folder, first = run_dir / CHECKPOINTS, _is_first_process()
    target = folder / f"{step:06d}"
    draft = folder / f"{UNFINISHED}{target.name}"
    if not first and agree is None:
        return target

    def begin() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        _settle_last(folder)

    def make() -> None:
        _write(draft, step, parts)
        _discard(target)
        draft.rename(target)

    def publish() -> None:
        flush(folder)
        _point_last(folder, target.name)
        older = [generation for generation in _generations(folder) if generation.step <= step]
        for generation in older[keep:] if keep is not None else ():
            _discard(generation.folder)

    agree = agree or bool
    _together(begin if first else None, agree)
    if agree(not first or not _is_whole(target)):
        try:
            # The others' parts come first, for the manifest, which the first process writes, lists them all.
            _together(None if first else lambda: _write_parts(draft, parts), agree)
            _together(make if first else None, agree)
        except BaseException as error:
            if first:
                shutil.rmtree(draft, ignore_errors=True)
            if isinstance(error, (OSError, SafetensorError)):
                raise OSError(f"{target}: the checkpoint could not be written ({error}); older ones stand") from error
            raise
    _together(publish if first else None, agree)
    return target


def _together(work: Callable[[], object] | None, agree: Agree) -> None:
    """Do the own share of the work, if any, and wait until all processes have done theirs.

    Raises:
        Whatever went wrong in this process; OSError if it did in another one.
    """
    problem: Exception | None = None
    try:
        if work is not None:
            work()
    except Exception as error:
        problem = error
    if not agree(problem is None):
        raise problem or OSError("another process of the run could not write its part")


def _write_parts(draft: Path, parts: Mapping[str, Callable[[Path], object]]) -> None:
    for name, write in parts.items():
        (draft / name).mkdir(parents=True)
        write(draft / name)


def _write(draft: Path, step: int, parts: Mapping[str, Callable[[Path], object]]) -> None:
    _write_parts(draft, parts)
    files, known = {}, _digests(last(draft.parent.parent))
    for path in sorted(path for path in draft.rglob("*") if path.is_file()):
        digest = known.get(_inode(path))
        if digest is None:
            digest = _digest(path)
            flush(path)
        files[path.relative_to(draft).as_posix()] = {"bytes": path.stat().st_size, "sha256": digest}
    manifest = draft / MANIFEST
    content = {"version": 1, "step": step, "files": files}
    manifest.write_text(json.dumps(content | {"sha256": _digest_of(content)}, indent=1), "utf-8")
    flush(manifest)
    for path in draft.rglob("*"):
        if path.is_dir():
            flush(path)
    flush(draft)


def _point_last(folder: Path, name: str) -> None:
    """Have `last` name a generation: as a link, or as a file where the disk knows no links."""
    draft = folder / f"{UNFINISHED}{LAST}"
    try:
        draft.symlink_to(name)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        draft.write_text(f"{name}\n", "utf-8")
        flush(draft)
    draft.replace(folder / LAST)
    flush(folder)


def _settle_last(folder: Path) -> None:
    """Where `last` is a folder, a copy that followed links has made it one: let it be the generation that it holds.

    Raises:
        FileExistsError: it is something else.
    """
    path = folder / LAST
    if path.is_symlink() or not path.is_dir():
        return
    step = _step(path)
    if step is None:
        raise FileExistsError(f"{path}: a folder that holds no checkpoint; the run's last one is to be named there")
    place = folder / f"{step:06d}"
    if place.is_dir() and (_is_whole(place) or not _is_whole(path)):
        _discard(path)
    else:
        _discard(place)
        path.rename(place)


def _discard(folder: Path) -> None:
    """Delete a generation such that no half of it is ever seen."""
    if folder.exists():
        gone = folder.with_name(f"{UNFINISHED}old-{folder.name}")
        folder.rename(gone)
        shutil.rmtree(gone)


def _sweep(folder: Path) -> None:
    for path in folder.glob(f"{UNFINISHED}*"):
        if path.is_symlink() or path.is_file():
            path.unlink()
        else:
            shutil.rmtree(path)


def _digests(generation: Path | None) -> dict[tuple[int, int], str]:
    """The digests that a generation's manifest tells, by inode; none where there is no such generation."""
    if generation is None:
        return {}
    try:
        files = json.loads((generation / MANIFEST).read_text("utf-8"))["files"]
        return {_inode(generation / name): entry["sha256"] for name, entry in files.items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _inode(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of(content: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _is_first_process() -> bool:
    # As torchrun and `accelerate launch` number the processes of a run.
    return os.environ.get("RANK", "0") == "0"


# Reading ----------------------------------------------------------------------------------------------


def latest(run_dir: Path) -> Generation | None:
    """The newest whole generation of a run, or None where none was ever made.

    A damaged one is passed over, with a warning that names the file.

    Raises:
        DamagedError: there are generations, but none is whole.
    """
    problems = []
    for generation in _generations(run_dir / CHECKPOINTS):
        try:
            verify(generation.folder)
        except DamagedError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            warnings.warn(f"{problem}; going back to the checkpoint of step {generation.step}", stacklevel=2)
        return generation
    if problems:
        raise DamagedError("no checkpoint is whole: " + "; ".join(problems))
    return None


def verify(folder: Path) -> None:
    """Compare a generation with its manifest.

    Raises:
        DamagedError: the manifest, or a file that it lists, is missing or altered.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text("utf-8"))
        if manifest.pop("sha256") != _digest_of(manifest):
            raise ValueError("altered since it was written (its own SHA-256 differs)")
        expected = {folder / name: (entry["bytes"], entry["sha256"]) for name, entry in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{path}: cannot be read: {error}") from error
    for file, (size, digest) in expected.items():
        if not file.is_file():
            raise DamagedError(f"{file}: missing")
        if file.stat().st_size != size:
            raise DamagedError(f"{file}: expected {size} bytes, got {file.stat().st_size}")
        if _digest(file) != digest:
            raise DamagedError(f"{file}: altered since it was written (its SHA-256 differs)")


def last(run_dir: Path) -> Path | None:
    """The generation that `checkpoints/last` tells, as a link or as a file; None where a run has none.

    Where `last` is gone, leads nowhere or is itself a folder (as `cp -rL` leaves it), it is the newest generation.
    """
    folder = run_dir / CHECKPOINTS
    path = folder / LAST
    if path.is_file():
        told = folder / path.read_text("utf-8", "replace").strip()
        if _STEP.fullmatch(told.name) and told.parent == folder and told.is_dir():
            return told
    elif path.is_symlink() and path.is_dir():
        return path.resolve()
    return next((generation.folder for generation in _generations(folder)), None)


def locate(checkpoint: Path) -> Place:
    """A checkpoint by any of its names: a run's folder, its `checkpoints`, their `last`, a generation, or a policy.

    A run's folder means its last checkpoint. Everything that is handed a checkpoint asks here.

    Raises:
        FileNotFoundError: there is none.
        DamagedError: it lies in a generation that is not whole.
    """
    named = Path(os.path.abspath(checkpoint))
    holder = named.parent if named.name == POLICY else named
    run = next((run for run in (holder, holder.parent, holder.parent.parent) if _names_last(holder, run)), None)
    folder = last(run) if run is not None else holder
    policy = next((place for place in (folder and folder / POLICY, folder) if place and place.is_dir()), None)
    if policy is None:
        raise FileNotFoundError(
            f"no checkpoint in {checkpoint}; expected a folder such as RUN/{CHECKPOINTS}/{LAST}, or its {POLICY}"
        )
    policy = policy.resolve()
    if not (policy.parent / MANIFEST).is_file():
        return Place(policy, None, None)
    verify(policy.parent)
    step = _step(policy.parent)
    assert step is not None, "verify has read it"
    checkpoints = policy.parent.parent
    return Place(
        policy, Generation(policy.parent, step), checkpoints.parent if checkpoints.name == CHECKPOINTS else None
    )


def _names_last(holder: Path, run: Path) -> bool:
    """Whether `holder` is another name of the last checkpoint of `run`."""
    folder = run / CHECKPOINTS
    return folder.is_dir() and holder in (run, folder, folder / LAST)


def policy_folder(checkpoint: Path) -> Path:
    """The saved policy of a checkpoint, by any name that `locate` takes; raises what it raises."""
    return locate(checkpoint).policy


def _generations(folder: Path) -> list[Generation]:
    """All of a run's generations, newest first; `last` is one where somebody copied it as a folder."""
    paths = folder.iterdir() if folder.is_dir() else ()
    found = [Generation(path, int(path.name)) for path in paths if path.is_dir() and _STEP.fullmatch(path.name)]
    copied = folder / LAST
    if copied.is_dir() and not copied.is_symlink() and (step := _step(copied)) is not None:
        found.append(Generation(copied, step))
    return sorted(found, key=lambda generation: (-generation.step, generation.folder.name))


def _step(folder: Path) -> int | None:
    """The step that a generation's manifest tells; None where it cannot be read."""
    try:
        return int(json.loads((folder / MANIFEST).read_text("utf-8"))["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_whole(folder: Path) -> bool:
    try:
        verify(folder)
    except DamagedError:
        return False
    return True


# Who may write ----------------------------------------------------------------------------------------


def claim(run: Run) -> Path:
    """Take a run's folder for this process until it ends, and write the run's config there.

    Of several processes of one run only the first takes it.

    Raises:
        ConfigError: the folder is not empty and `resume` is off; `resume` is on and there is no folder; or
            another live process has it, which is named.
        FileExistsError: `checkpoints/last` of the run to resume is something else than a checkpoint.
    """
    folder = run.run_dir
    if folder is None:
        raise ConfigError("run_dir: a run needs a folder, got none")
    if not _is_first_process():
        return folder
    if run.resume and not folder.is_dir():
        raise ConfigError(f"run_dir: {folder} does not exist, so there is no run to resume")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"run_dir: {folder} is a file")
    folder.mkdir(parents=True, exist_ok=True)
    # A folder that no run ever locked is somebody else's: leave no lock in it.
    if (folder / LOCK).exists() or run.resume:
        _lock(folder)
    if not run.resume and any(path.name != LOCK for path in folder.iterdir()):
        raise ConfigError(
            f"run_dir: {folder} exists and is not empty; resume=true goes on with the run in it, another run_dir "
            "starts a new one"
        )
    _lock(folder)
    if run.resume:
        _settle_last(folder / CHECKPOINTS)
    run.save(folder)
    return folder


@contextmanager
def starting(run: Run) -> Iterator[Path]:
    """Claim a run's folder for the making of its parts. Where that fails, a new run leaves nothing in it.

    Raises:
        ConfigError: see `claim`.
    """
    folder = claim(run)
    try:
        yield folder
    except BaseException:
        if not run.resume and _is_first_process():
            _give_back(folder)
        raise


def _give_back(folder: Path) -> None:
    """Delete what a start makes, so that the folder can be claimed again; what somebody else put there stays."""
    for name in MADE_AT_START:
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in (CONFIG_FILE, LOCK):
        (folder / name).unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


def _lock(folder: Path) -> None:
    """Hold `.lock` until the process ends, however it ends.

    The handle stays open on purpose. A record lock belongs to this process alone: workers that it forked
    and that outlive it do not keep the folder locked, and the process may claim the folder again.
    Where the disk knows no locks, what `.lock` says of its holder has to do.
    """
    path = folder / LOCK
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    holder = os.pread(handle, 200, 0).decode("utf-8", "replace").strip()
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lockless = error.errno in UNSUPPORTED
        if error.errno in (errno.EACCES, errno.EAGAIN) or (lockless and _lives(holder)):
            os.close(handle)
            raise ConfigError(
                f"run_dir: {folder} is in use by {holder or 'another process'}; so {path} says"
            ) from error
        if not lockless:
            os.close(handle)
            raise OSError(error.errno, f"cannot be locked ({error.strerror})", str(path)) from error
        warnings.warn(
            f"{path}: this disk knows no locks ({error.strerror}); start no second run in {folder}", stacklevel=3
        )
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)


def _lives(holder: str) -> bool:
    """Whether what `.lock` says names another live process of this machine."""
    told = re.fullmatch(r"process (\d+) on (.+)", holder)
    if told is None or told[2] != socket.gethostname() or int(told[1]) == os.getpid():
        return False
    try:
        os.kill(int(told[1]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is somebody else's
        return True
    return True
