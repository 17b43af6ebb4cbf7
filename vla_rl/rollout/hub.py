"""A checkpoint by its folder, or by its name on the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
"""`owner/name`."""


def fetched(source: str | Path, revision: str | None = None) -> Path:
    """The folder that `source` names; of a hub id, the files of its repository, downloaded once.

    A folder of that name comes first. revision: a branch, tag or commit of the repository.

    Raises:
        FileNotFoundError: there is neither such a folder nor such a repository; or the hub cannot be reached, and the
            repository was not downloaded before.
    """
    folder = Path(source).expanduser()
    if folder.exists() or not isinstance(source, str) or not _ID.fullmatch(source):
        return folder
    try:
        return Path(snapshot_download(source, revision=revision))
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise FileNotFoundError(
            f"{source}: no such folder here, and the hub cannot be asked for a model of that name (offline?), which "
            "was not downloaded before; name a folder, or run `hf download` where there is a network"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        said = " ".join(str(error).split())
        raise FileNotFoundError(f"{source}: no such folder here, and the hub says: {said}") from error
