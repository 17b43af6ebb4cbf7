"""The packages whose environments have been tried: what to import, and which MuJoCo they work with.

Each has an extra of its name, and `scripts/install_suite.sh NAME` makes an environment for it.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from vla_rl.registry import ConfigError, SetupError, nearest


@dataclass(frozen=True)
class Suite:
    """A package of environments.

    needs: top-level modules that have to be there. registers: the module whose import makes Gymnasium know the
    ids. mujoco_below: the first (major, minor) of MuJoCo that it does not work with.
    """

    name: str
    needs: tuple[str, ...]
    registers: str
    mujoco_below: tuple[int, int] = (5, 0)

    @property
    def missing(self) -> str:
        """What keeps it from running here, in words; "" where nothing does. Imports nothing."""
        absent = [module for module in self.needs if find_spec(module) is None]
        if absent:
            return f"{', '.join(absent)} cannot be imported"
        try:
            found = version("mujoco")
        except PackageNotFoundError:
            return "mujoco is not installed"
        if _release(found) >= self.mujoco_below:
            return f"it needs mujoco below {'.'.join(map(str, self.mujoco_below))}, and {found} is installed"
        return ""


SUITES = {
    suite.name: suite
    for suite in (
        # MuJoCo's enums and `eq_data` changed in 3.12; what a suite's code makes of that was tried.
        Suite("gymnasium", needs=("gymnasium", "imageio"), registers="gymnasium.envs.mujoco"),
        Suite("robotics", needs=("gymnasium_robotics",), registers="gymnasium_robotics", mujoco_below=(3, 12)),
        Suite("metaworld", needs=("metaworld",), registers="metaworld", mujoco_below=(3, 14)),
        Suite("pusht", needs=("gym_pusht",), registers="gym_pusht"),
    )
}
"""By name."""


def installed(name: str) -> bool:
    """Whether the suite of this name runs here; a module that is no suite counts where it can be found."""
    if name in SUITES:
        return not SUITES[name].missing
    return find_spec(name.partition(".")[0]) is not None


def load(name: str, plugins: Sequence[str] = ()) -> None:
    """Import what registers the environments of a suite, or of a module that `plugins` lists.

    Raises:
        ConfigError: neither; nothing was imported.
        SetupError: it is not installed, or not with the MuJoCo that it needs.
    """
    suite = SUITES.get(name)
    if suite is None and not any(name == plugin or name.startswith(f"{plugin}.") for plugin in plugins if plugin):
        raise ConfigError(
            f"env.adapter.suite: {name!r} is neither a known suite nor listed in the run's `plugins`; "
            f"{nearest(name, SUITES)}"
        )
    if suite is not None and suite.missing:
        raise SetupError(
            f"env.adapter.suite: {name} is not ready here: {suite.missing}. `bash scripts/install_suite.sh {name}` "
            f"makes an environment for it in .venvs/{name}; `pip install 'vla-rl[{name}]'` installs it where you are"
        )
    try:
        importlib.import_module(suite.registers if suite else name)
    except ImportError as error:
        raise SetupError(f"env.adapter.suite: {name} cannot be imported: {error}") from error


def _release(text: str) -> tuple[int, int]:
    """The first two numbers of a version."""
    major, minor = text.split(".")[:2]
    return int(major), int(minor)
