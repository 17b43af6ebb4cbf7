"""Memory that does not suffice: told from other errors, and said in the words of the config."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from accelerate.utils.memory import should_reduce_batch_size

from vla_rl.registry import ConfigError

_UNCLEAR = ("could not create a primitive", "Storage size calculation overflowed")
"""What oneDNN and torch say on a CPU."""


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory does not suffice: numpy's, CUDA's, or one of the CPU's."""
    said = str(error)
    return isinstance(error, MemoryError) or any(each in said for each in _UNCLEAR) or should_reduce_batch_size(error)


def first_line(error: Exception) -> str:
    """What an error is and says, in a line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


@contextmanager
def taking_memory(what: str) -> Iterator[None]:
    """Raise ConfigError, which names `what`, where what is made meanwhile finds too little memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise ConfigError(f"{what}: takes more memory than there is ({first_line(error)})") from error
