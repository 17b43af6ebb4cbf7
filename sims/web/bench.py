"""How fast pages are: steps a second of one tab and of four, and against the package's own Selenium driver."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import cycle
from statistics import median
from typing import TYPE_CHECKING, Any

from sims.web.miniwob import MiniWoB

if TYPE_CHECKING:
    from sims.web.env import PageEnv

ROUNDS, STEPS, TABS = 5, 60, 4


def measure(env: PageEnv) -> dict[str, float]:
    """Steps a second with a screenshot and the reward in every step, resets included, medians of interleaved rounds.

    `web_steps_per_s`: one tab. `web_tabs4_over_tabs1`: four tabs of one browser, each in a thread, over one.
    `web_over_selenium`: over the same page in the package's own environment, where it, selenium and chromedriver are
    installed (`bash scripts/install_suite.sh web --bench`); its screenshots, and a click at the same places.
    """
    steppers = [_stepper(_again(env), seed) for seed in range(TABS)]
    theirs = _selenium(env.task.name) if isinstance(env.task, MiniWoB) else None
    rounds: list[tuple[float, ...]] = []
    with ThreadPoolExecutor(TABS) as threads:
        for step, _ in steppers:
            _times(step, 5)
        for _ in range(ROUNDS):
            one = _times(steppers[0][0], STEPS)
            start = time.perf_counter()
            list(threads.map(lambda stepper: _times(stepper[0], STEPS), steppers))
            four = (time.perf_counter() - start) / TABS
            rounds.append((one, four, _times(theirs[0], STEPS // 4) * 4 if theirs else 0.0))
    for _, close in [*steppers, *([theirs] if theirs else [])]:
        close()
    found = {
        "web_steps_per_s": STEPS / median(one for one, *_ in rounds),
        "web_tabs4_over_tabs1": median(one / four for one, four, _ in rounds),
    }
    return found | ({"web_over_selenium": median(slow / one for one, _, slow in rounds)} if theirs else {})


def _again(env: PageEnv) -> PageEnv:
    """Another environment of the same page, whose only gesture is the click; see `measure`."""
    return type(env)(env.task, gestures=("click",))


def _stepper(env: Any, seed: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """What steps an environment and resets it where an episode ends, and what closes it."""
    env.action_space.seed(seed)
    env.reset(seed=seed)
    actions = cycle([env.action_space.sample() for _ in range(64)])

    def step() -> None:
        _, _, terminated, truncated, _ = env.step(next(actions))
        if terminated or truncated:
            env.reset()

    return step, env.close


def _times(work: Callable[[], None], repeats: int) -> float:
    """Seconds that so many calls take."""
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    return time.perf_counter() - start


def _selenium(name: str) -> tuple[Callable[[], None], Callable[[], None]] | None:
    """The same of the package's own environment; None where it cannot be made here."""
    if find_spec("selenium") is None:
        return None
    environment = importlib.import_module("miniwob.environment").MiniWoBEnvironment
    actions = importlib.import_module("miniwob.action")
    env = environment(subdomain=name)
    env.reset(seed=0)
    kind = actions.ActionTypes.CLICK_COORDS
    places = cycle([(20.0 + 13 * (i * 7 % 10), 60.0 + 13 * (i * 3 % 11)) for i in range(64)])

    def step() -> None:
        _, _, terminated, truncated, _ = env.step(env.unwrapped.create_action(kind, coords=next(places)))
        if terminated or truncated:
            env.reset()

    return step, env.close
