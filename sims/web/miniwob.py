"""MiniWoB++'s pages as the `miniwob` package ships them: without its driver, seeded, counted in steps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from sims.web import chromium, experts
from sims.web.names import NAMES
from sims.web.page import Page
from vla_rl.registry import SetupError, nearest

SIZE = (160, 210)
AREA = (0, 50, 160, 160)
"""What lies below the instruction."""

_SETUP = """
Math.seedrandom(seed);
core.EPISODE_MAX_TIME = 2 ** 31 - 1;
for (const id of ["reward-display", "click-canvas"]) document.getElementById(id).style.display = "none";
core.startEpisodeReal();
core.startEpisode = () => {};
"""
"""No clock but the count of steps; nothing beside the task, which might be scrolled to; the last frame stays."""
_SAID = "((said) => said.utterance || said)(core.getUtterance())"


@dataclass(frozen=True)
class MiniWoB:
    """A page of MiniWoB++: success is the full reward of 1, without regard to time.

    name: the page, such as click-test-2. reward: what is paid at the end: `true` for success, `proxy` for whatever
    reward above 0, as BrowserGym counts; both stand in the info, together with `raw_reward`.
    whole: whether the written instruction at the top is observed, too. horizon, seconds, wheel: as of `Page`.
    """

    name: str
    reward: Literal["true", "proxy"] = "true"
    whole: bool = False
    horizon: int = 20
    seconds: float = 0.5
    wheel: float = 40.0

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ValueError(f"name: no page {self.name!r}; {nearest(self.name, NAMES)}")

    @classmethod
    def missing(cls) -> str:
        """What is not installed, in words; "" where nothing lacks. Imports nothing."""
        return Page.missing() or ("" if find_spec("miniwob") else "miniwob is not installed")

    @cached_property
    def page(self) -> Page:
        """The page. Raises SetupError where the package is not installed."""
        return Page(
            file=str(folder() / f"{self.name}.html"),
            root="/",  # an installed package's; waiting for each file would move its clock
            instruction={"js": _SAID},
            setup=_SETUP,
            success="WOB_DONE_GLOBAL && WOB_RAW_REWARD_GLOBAL === 1",
            proxy="WOB_DONE_GLOBAL && WOB_RAW_REWARD_GLOBAL > 0",
            reward="success" if self.reward == "true" else "proxy",
            over="WOB_DONE_GLOBAL",
            score="WOB_RAW_REWARD_GLOBAL",
            expert=f"miniwob('{self.name}')" if self.name in experts.MINIWOB else None,
            size=SIZE,
            region=None if self.whole else AREA,
            horizon=self.horizon,
            seconds=self.seconds,
            wheel=self.wheel,
        )


def folder() -> Path:
    """Where the pages lie. Raises SetupError where there are none."""
    spec = find_spec("miniwob")
    if spec is None or spec.origin is None:
        raise SetupError(f"the pages of MiniWoB++ are not installed; `{chromium.INSTALL}` installs them")
    return Path(spec.origin).parent / "html" / "miniwob"
