"""The checkpoints that a run's folder holds: found by any name, and held against what their manifests say."""

from __future__ import annotations

import json
import os
import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

from vla_rl.paths import is_within, sha256_of, sha256_of_json

CHECKPOINTS, LAST, MANIFEST = "checkpoints", "last", "manifest.json"
POLICY, EXPERIENCE = "pretrained_model", "replay"
"""The part that acts; and the folder within a part of which what is whole can do without the rest."""
_MOVES = 5
"""How often a run may move `last` while it is being read."""
_STEP = re.compile(r"\d{6,}")


class DamagedError(ValueError):
    """A checkpoint's file is missing, cut short or altered. The message names it."""


@dataclass(frozen=True)
class Generation:
    """A checkpoint. folder: holds one folder a part. step: when it was made. damaged: files of experience that cannot
    be read; all others can."""

    folder: Path
    step: int
    damaged: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Place:
    """Where a checkpoint lies.

    policy: the folder of its saved policy. generation, run_dir: what holds it; None for a policy that stands alone.
    """

    policy: Path
    generation: Generation | None
    run_dir: Path | None


def latest(run_dir: Path) -> Generation | None:
    """The newest whole generation of a run, or None where none was ever made.

    A damaged one is passed over, with a warning that names the file. Where none is whole, as generations share files,
    it is the newest that lacks nothing but experience.

    Raises:
        DamagedError: there are generations, but none is whole, nor lacks nothing but experience.
    """
    problems: list[str] = []
    usable: tuple[Generation, list[str]] | None = None
    for generation in generations(run_dir / CHECKPOINTS):
        found = _damages(generation.folder)
        if not found:
            for problem in problems:
                warnings.warn(f"{problem}; going back to the checkpoint of step {generation.step}", stacklevel=2)
            return generation
        if not generation.folder.is_dir():  # its run has gone on meanwhile, and deleted it
            continue
        problems += list(found.values())[:1]
        if usable is None and all(_is_experience(generation.folder, file) for file in found):
            usable = replace(generation, damaged=tuple(found)), list(found.values())
    if usable is not None:
        generation, damages = usable
        told = "; ".join(damages[:3]) + (f"; and {len(damages) - 3} more" if len(damages) > 3 else "")
        warnings.warn(
            f"{told}; no checkpoint is whole, so that of step {generation.step} goes on without what these files held",
            stacklevel=2,
        )
        return generation
    if problems:
        raise DamagedError("no checkpoint is whole: " + "; ".join(problems))
    return None


def verify(folder: Path, experience: bool = True) -> None:
    """Compare a generation with its manifest; without `experience`, all but that.

    Raises:
        DamagedError: the manifest, or a file that it lists, is missing or altered.
    """
    for file, problem in _damages(folder).items():
        if experience or not _is_experience(folder, file):
            raise DamagedError(problem)


def _is_experience(folder: Path, file: Path) -> bool:
    """Whether a generation's file holds experience."""
    return file.relative_to(folder).parts[1:2] == (EXPERIENCE,)


def _damages(folder: Path) -> dict[Path, str]:
    """What is wrong with a generation, by file; with its manifest alone where that cannot be read."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text("utf-8"))
        if manifest.pop("sha256") != sha256_of_json(manifest):
            raise ValueError("altered since it was written (its own SHA-256 differs)")
        outside = [name for name in manifest["files"] if not is_within(name)]
        if outside:
            raise ValueError(f"lists {outside[0][:60]!r}, which does not lie in the checkpoint")
        expected = {folder / name: (entry["bytes"], entry["sha256"]) for name, entry in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return {path: f"{path}: cannot be read: {error}"}
    problems = ((file, _damage(file, size, digest)) for file, (size, digest) in expected.items())
    return {file: problem for file, problem in problems if problem}


def _damage(file: Path, size: int, digest: str) -> str:
    """What is wrong with a file of so many bytes and that digest; "" if nothing."""
    try:
        if not file.is_file():
            return f"{file}: missing"
        if file.stat().st_size != size:
            return f"{file}: expected {size} bytes, got {file.stat().st_size}"
        return "" if sha256_of(file) == digest else f"{file}: altered since it was written (its SHA-256 differs)"
    except OSError as error:
        return f"{file}: cannot be read: {error}"


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
        told = path.resolve()
        if _STEP.fullmatch(told.name) and told.parent == folder.resolve():
            return told
    return next((generation.folder for generation in generations(folder)), None)


def locate(checkpoint: Path) -> Place:
    """A checkpoint by any of its names: a run's folder, its `checkpoints`, their `last`, a generation, or a policy.

    A run's folder means its last checkpoint. Everything that is handed a checkpoint asks here. Where the run goes on
    meanwhile, and deletes what was its last one, it is the one that is its last by now.

    Raises:
        FileNotFoundError: there is none.
        DamagedError: it lies in a generation of which more than experience is damaged.
    """
    for _ in range(_MOVES):
        before = _last_of(checkpoint)
        try:
            return _locate(checkpoint)
        except (FileNotFoundError, DamagedError):
            if before is None or _last_of(checkpoint) == before:
                raise
    return _locate(checkpoint)


def _last_of(checkpoint: Path) -> Path | None:
    """The last generation of a run that is named, or whose last checkpoint is."""
    run = _run_of(_holder(checkpoint))
    return None if run is None else last(run)


def _holder(checkpoint: Path) -> Path:
    named = Path(os.path.abspath(checkpoint))
    return named.parent if named.name == POLICY else named


def _run_of(holder: Path) -> Path | None:
    """The run whose last checkpoint `holder` names."""
    return next((run for run in (holder, holder.parent, holder.parent.parent) if _names_last(holder, run)), None)


def _locate(checkpoint: Path) -> Place:
    holder = _holder(checkpoint)
    run = _run_of(holder)
    folder = last(run) if run is not None else holder
    policy = next((place for place in (folder and folder / POLICY, folder) if place and place.is_dir()), None)
    if policy is None:
        raise FileNotFoundError(
            f"no checkpoint in {checkpoint}; expected a folder such as RUN/{CHECKPOINTS}/{LAST}, or its {POLICY}"
        )
    policy = policy.resolve()
    if not (policy.parent / MANIFEST).is_file():
        return Place(policy, None, None)
    verify(policy.parent, experience=False)
    step = step_of(policy.parent)
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


def generations(folder: Path) -> list[Generation]:
    """All of a run's generations, newest first; `last` is one where somebody copied it as a folder."""
    paths = folder.iterdir() if folder.is_dir() else ()
    found = [Generation(path, int(path.name)) for path in paths if path.is_dir() and _STEP.fullmatch(path.name)]
    copied = folder / LAST
    if copied.is_dir() and not copied.is_symlink() and (step := step_of(copied)) is not None:
        found.append(Generation(copied, step))
    return sorted(found, key=lambda generation: (-generation.step, generation.folder.name))


def step_of(folder: Path) -> int | None:
    """The step that a generation's manifest tells; None where it cannot be read."""
    try:
        return int(json.loads((folder / MANIFEST).read_text("utf-8"))["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_whole(folder: Path) -> bool:
    """Whether `verify` finds a generation undamaged."""
    try:
        verify(folder)
    except DamagedError:
        return False
    return True
