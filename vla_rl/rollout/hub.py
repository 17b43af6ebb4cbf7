"""A checkpoint by its folder, or by its name on the Hugging Face hub; and what is taken of somebody's repository."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

from vla_rl.paths import is_within

_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
"""`owner/name`."""
_NAME = re.compile(r"[\w][\w./-]*")
_KINDS = (".json", ".safetensors", ".txt", ".model", ".jinja", ".yaml", ".md")
"""Of the files that are taken: weights, and what is read as text. None of them is run."""
MOST_GB = 20.0
_MOST_FILES = 1_000


@dataclass(frozen=True)
class Listing:
    """What is taken of a repository: `files` of the commit `sha`. left_out: its other files."""

    sha: str
    files: tuple[str, ...]
    left_out: tuple[str, ...]


def is_id(name: object) -> bool:
    """Whether a name is one of the hub's, `owner/name`."""
    return isinstance(name, str) and bool(_ID.fullmatch(name))


def listing(name: str, revision: str | None = None, most_gb: float = MOST_GB) -> Listing:
    """What is taken of a repository, before anything of it is downloaded.

    Raises:
        HTTPError, OfflineModeIsEnabled: the hub does not answer, or does not know it.
        ValueError: a name that leads elsewhere; too much to take; or no policy.
    """
    info = HfApi().model_info(name, revision=revision, files_metadata=True)
    sizes = {each.rfilename: each.size for each in info.siblings or ()}
    for file in sizes:
        if not is_within(file):
            raise ValueError(f"{name}: has a file {file[:60]!r}, which does not lie in it")
    files = [file for file in sizes if _NAME.fullmatch(file) and PurePosixPath(file).suffix in _KINDS]
    size = sum(sizes[file] or 0 for file in files)
    if size > most_gb * 1e9 or len(files) > _MOST_FILES:
        raise ValueError(
            f"{name}: {len(files)} files of {size / 1e9:.3g} GB, at most {_MOST_FILES} of {most_gb:g} GB are taken; "
            "vla-rl pull --max-gb takes more"
        )
    if "config.json" not in files:
        raise ValueError(f"{name}: is no policy of vla_rl: it has no config.json")
    return Listing(info.sha or "main", tuple(files), tuple(file for file in sizes if file not in files))


def fetched(source: str | Path, revision: str | None = None) -> Path:
    """The folder that `source` names; of a hub id, the files of its repository, downloaded once.

    A folder of that name comes first. revision: a branch, tag or commit of the repository.

    Raises:
        FileNotFoundError: there is neither such a folder nor such a repository; or the hub cannot be reached, and the
            repository was not downloaded before.
        ValueError: the repository is none that is taken, see `listing`.
    """
    folder = Path(source).expanduser()
    if folder.exists() or not isinstance(source, str) or not is_id(source):
        return folder
    try:
        found = listing(source, revision)
        return Path(snapshot_download(source, revision=found.sha, allow_patterns=list(found.files)))
    except (HTTPError, OSError, OfflineModeIsEnabled) as error:
        return _kept(source, revision, error)


def _kept(name: str, revision: str | None, error: Exception) -> Path:
    """What was downloaded before, where the hub gives nothing. Raises FileNotFoundError."""
    answer = getattr(error, "response", None)
    if answer is not None:
        raise FileNotFoundError(f"{name}: no such folder here, and the hub says: {_line(error)}") from error
    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, OSError) as missing:
        raise FileNotFoundError(
            f"{name}: no such folder here, and the hub cannot be asked for a model of that name (offline?), which "
            "was not downloaded before; name a folder, or run `vla-rl pull` where there is a network"
        ) from missing


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
