"""What the hub answers, as whoever runs a command is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import HTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

from vla_rl.registry import SetupError
from vla_rl.rollout.hub import is_id


@contextmanager
def told(name: str, doing: str) -> Iterator[None]:
    """Where the hub refuses what is done meanwhile with the repository `name`, raise SetupError, which says why.

    Raises ValueError where it is no name of the hub's.
    """
    if not is_id(name):
        raise ValueError(f"{name!r}: expected a repository of the hub, owner/name")
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise SetupError(f"{name}: cannot be {doing} offline; unset HF_HUB_OFFLINE") from error
    except (HTTPError, LocalTokenNotFoundError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        unknown = status in (401, 403) or isinstance(error, LocalTokenNotFoundError)
        who = "; `hf auth login`, or HF_TOKEN, says who you are" if unknown else ""
        raise SetupError(f"{name}: cannot be {doing}: {' '.join(str(error).split())[:500]}{who}") from error
