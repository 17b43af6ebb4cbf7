"""How fast pages are: steps a second of one tab and of four, and against the package's own Selenium driver."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import cycle
from statistics import median
from typing import Any

import numpy as np

from sims.web.miniwob import MiniWoB

ROUNDS, STEPS, TABS = 5, 60, 4


class Clicker:
    """Steps an environment by clicks here and there, and resets it where an episode ends.

    Attributes:
        stepping, resetting: seconds spent so far. resets: how many.
    """

    def __init__(self, env: Any, actions: Sequence[Any]) -> None:
        self._env, self._actions = env, cycle(actions)
        self.stepping = self.resetting = 0.0
        self.resets = 0
        env.reset(seed=0)

    def __call__(self, steps: int) -> float:
        """Take so many steps. Returns the seconds that they took, resets left out."""
        before = self.stepping
        for _ in range(steps):
            start = time.perf_counter()
            _, _, terminated, truncated, _ = self._env.step(next(self._actions))
            self.stepping += time.perf_counter() - start
            if terminated or truncated:
                start = time.perf_counter()
                self._env.reset()
                self.resetting += time.perf_counter() - start
                self.resets += 1
        return self.stepping - before

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


def measure(page: Any, make: Callable[[], Any]) -> dict[str, float]:
    """Speeds with a screenshot and the reward in every step; medians of interleaved rounds.

    page: what a config says of the page. make: makes an environment of it, whose only gesture is the click.

    `web_steps_per_s`: of one tab, resets left out; `web_resets_per_s`: its resets, which load the page anew.
    `web_tabs4_over_tabs1`: steps a second, resets included, of four tabs of one browser, each in a thread, over one's.
    `web_over_selenium`: steps a second, resets left out, over those of the same page in the package's own environment,
    where it, selenium and chromedriver are installed (`bash scripts/install_suite.sh web --bench`).
    """
    tabs = [_ours(make()) for _ in range(TABS)]
    theirs = _selenium(page.name) if isinstance(page, MiniWoB) else None
    rounds = []
    with ThreadPoolExecutor(TABS) as threads:
        for clicker in tabs:
            clicker(10)
        for _ in range(ROUNDS):
            start = time.perf_counter()
            steps = tabs[0](STEPS)
            one = time.perf_counter() - start
            start = time.perf_counter()
            list(threads.map(lambda clicker: clicker(STEPS), tabs))
            four = (time.perf_counter() - start) / TABS
            rounds.append((steps / STEPS, one / four, theirs(STEPS // 4) / (STEPS // 4) if theirs else 0.0))
    found = {
        "web_steps_per_s": 1 / median(step for step, *_ in rounds),
        "web_resets_per_s": sum(each.resets for each in tabs[:1]) / max(tabs[0].resetting, 1e-9),
        "web_tabs4_over_tabs1": median(share for _, share, _ in rounds),
    }
    if theirs:
        found["web_over_selenium"] = median(slow / step for step, _, slow in rounds)
        theirs.close()
    for clicker in tabs:
        clicker.close()
    return found


def _ours(env: Any) -> Clicker:
    env.action_space.seed(0)
    return Clicker(env, [env.action_space.sample() for _ in range(64)])


def _selenium(name: str) -> Clicker | None:
    """The package's own environment of the page; None where it cannot be made here."""
    if find_spec("selenium") is None:
        return None
    kind = importlib.import_module("miniwob.action").ActionTypes.CLICK_COORDS
    env = importlib.import_module("miniwob.environment").MiniWoBEnvironment(subdomain=name)
    rng = np.random.default_rng(0)
    places = rng.uniform((0, 50), (160, 210), (64, 2)).astype(np.float32)
    return Clicker(env, [env.create_action(kind, coords=place) for place in places])
