"""Reinforcement learning for vision-language-action policies.

`vla_rl.load("folder or hub id").act(observation)`; `from vla_rl import Actor, Callback, Policy, evaluate, make_env,
record, sft, train`. Nothing of it is imported before it is used, so that `import vla_rl` takes no time.
"""

import importlib
import sys
import types
from typing import Any

__version__ = "0.2.0"

_HOMES = {
    "Actor": "vla_rl.rollout.actor",
    "Callback": "vla_rl.runtime.callbacks",
    "Policy": "vla_rl.models.policy",
    "evaluate": "vla_rl.evaluate",
    "load": "vla_rl.rollout.actor",
    "make_env": "vla_rl.evaluate",
    "record": "vla_rl.data.record",
    "sft": "vla_rl.sft",
    "train": "vla_rl.train",
}
"""What people import from here, and where it lies; `__init__.pyi` tells type checkers the same."""
__all__ = ["Actor", "Callback", "Policy", "evaluate", "load", "make_env", "record", "sft", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vla_rl' has no attribute {name!r}")
    home = importlib.import_module(_HOMES[name])
    # The name of a module and of its function: the module, which can be called; see `Verb`.
    found = home if home.__name__ == f"vla_rl.{name}" else getattr(home, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


class Verb(types.ModuleType):
    """A module that can be called as the function of its name: `vla_rl.train(...)` is `vla_rl.train.train(...)`.

    Importing a module `vla_rl.train` sets the attribute `train` of the package to the module, whoever imports it and
    why. A function of that name in the package would be there or not depending on what was imported before; a module
    that can be called is both, always.
    """

    def __call__(self, *given: Any, **named: Any) -> Any:
        return getattr(self, self.__name__.rpartition(".")[2])(*given, **named)

    @classmethod
    def make(cls, name: str) -> None:
        """Have the module `name` be one."""
        sys.modules[name].__class__ = cls
