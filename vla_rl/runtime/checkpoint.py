"""Checkpoints that survive a kill at any moment: written, and read back.

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

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError

from vla_rl import fault_points
from vla_rl.paths import UNSUPPORTED, flush, sha256_of, sha256_of_json
from vla_rl.runtime.generations import (
    CHECKPOINTS,
    LAST,
    MANIFEST,
    DamagedError,
    Generation,
    Place,
    generations,
    is_whole,
    last,
    latest,
    locate,
    policy_folder,
    step_of,
    verify,
)
from vla_rl.runtime.serialization import (
    check_state,
    load_entry,
    load_state,
    rng_state,
    save_state,
    seed_all,
    set_rng_state,
)

__all__ = [
    "CHECKPOINTS",
    "LAST",
    "DamagedError",
    "Generation",
    "Place",
    "check_state",
    "last",
    "latest",
    "link_part",
    "load_entry",
    "load_state",
    "locate",
    "policy_folder",
    "rng_state",
    "save",
    "save_state",
    "seed_all",
    "set_rng_state",
    "verify",
]

UNFINISHED = ".part-"
"""Prefix of what is being written or deleted; whatever a killed run left of it is swept by the next save."""


Agree = Callable[[bool], bool]
"""Whether all processes of a run are well, by what each says of itself; all of them call it, and each waits for all."""


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
    folder, first = run_dir / CHECKPOINTS, is_first_process()
    target = folder / f"{step:06d}"
    draft = folder / f"{UNFINISHED}{target.name}"
    if not first and agree is None:
        return target

    def begin() -> None:
        fault_points.come_to("checkpoint.begin")
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        settle_last(folder)

    def make() -> None:
        _write(draft, step, parts)
        fault_points.come_to("checkpoint.rename")
        _discard(target)
        draft.rename(target)

    def publish() -> None:
        flush(folder)
        fault_points.come_to("checkpoint.last")
        _point_last(folder, target.name)
        fault_points.come_to("checkpoint.prune")
        older = [generation for generation in generations(folder) if generation.step <= step]
        for generation in older[keep:] if keep is not None else ():
            _discard(generation.folder)

    agree = agree or bool
    _together(begin if first else None, agree)
    if agree(not first or not is_whole(target)):
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


def link_part(generation: Path | None, part: str, target: Path) -> bool:
    """Have `target` hold the files of a part that never changes; False where there is none, or where a file of it was
    written to since."""
    if generation is None or not (generation / part).is_dir():
        return False
    files, known = [path for path in (generation / part).rglob("*") if path.is_file()], _digests(generation)
    if not all(_inode(path) in known for path in files):
        return False
    shutil.copytree(generation / part, target, copy_function=_link, dirs_exist_ok=True)
    return True


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        shutil.copyfile(source, target)


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
            digest = sha256_of(path)
            flush(path)
        files[path.relative_to(draft).as_posix()] = {"bytes": path.stat().st_size, "sha256": digest}
    fault_points.come_to("checkpoint.manifest")
    manifest = draft / MANIFEST
    content = {"version": 1, "step": step, "files": files}
    manifest.write_text(json.dumps(content | {"sha256": sha256_of_json(content)}, indent=1), "utf-8")
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


def settle_last(folder: Path) -> None:
    """Where `last` is a folder, a copy that followed links has made it one: let it be the generation that it holds.

    Raises:
        FileExistsError: it is something else.
    """
    path = folder / LAST
    if path.is_symlink() or not path.is_dir():
        return
    step = step_of(path)
    if step is None:
        raise FileExistsError(f"{path}: a folder that holds no checkpoint; the run's last one is to be named there")
    place = folder / f"{step:06d}"
    if place.is_dir() and (is_whole(place) or not is_whole(path)):
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
    """The digests that a generation's manifest tells, by inode, of files that were not written to since; none where
    there is no such generation."""
    if generation is None:
        return {}
    try:
        manifest = generation / MANIFEST
        files = json.loads(manifest.read_text("utf-8"))["files"]
        since = manifest.stat().st_mtime_ns
        known = {generation / name: entry["sha256"] for name, entry in files.items()}
        return {_inode(path): digest for path, digest in known.items() if path.stat().st_mtime_ns <= since}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _inode(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def is_first_process() -> bool:
    """Whether this is the first of a run's processes, as torchrun and `accelerate launch` number them."""
    return os.environ.get("RANK", "0") == "0"
