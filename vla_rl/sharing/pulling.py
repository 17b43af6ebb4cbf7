"""A policy from the hub, checked before it lies where it was asked for."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from huggingface_hub import snapshot_download

from vla_rl.models import storage
from vla_rl.rollout import hub
from vla_rl.sharing.errors import told


def pull(name: str, folder: Path, revision: str | None = None, most_gb: float = hub.MOST_GB) -> tuple[str, ...]:
    """Download a repository's policy into a new folder; returns the names of the files that were left there.

    All of it is of one commit, is held against the digests in its config.json, and appears in `folder` at once or
    not at all. Nothing of it is run or imported.

    Raises:
        FileExistsError: `folder` is there already.
        SetupError: the hub does not answer, or does not let you have it.
        ValueError: it is no policy, damaged, or larger than `most_gb`; see `hub.listing`.
    """
    if folder.exists():
        raise FileExistsError(f"{folder}: exists already; name another folder, or remove it")
    with told(name, "pulled"):
        found = hub.listing(name, revision, most_gb)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".pulling-", dir=folder.parent) as scratch:
        draft = Path(scratch, "policy")
        with told(name, "pulled"):
            snapshot_download(name, revision=found.sha, allow_patterns=list(found.files), local_dir=draft)
        shutil.rmtree(draft / ".cache", ignore_errors=True)  # the client's own notes
        storage.verify(draft)
        draft.rename(folder)
    return found.left_out
