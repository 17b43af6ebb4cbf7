"""A plugin: the run's environments keep the ledger, and go wrong where they are ordered to.

An order is a file in a folder, named after what is to go wrong; the environment that deletes it carries it out.
Without the variables of `ledger` nothing is changed.
"""

from __future__ import annotations

import copy
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator

from chaos.ledger import COLUMN, ENV, LEDGER, ORDERS, Ledger
from vla_rl.envs.make import register_installed, spoilt
from vla_rl.specs import STATE, TRAINING_SEEDS


def _raise() -> None:
    raise OSError("chaos: the world broke")


BEFORE: dict[str, Callable[[], object]] = {
    "raise": _raise,
    "raise_reset": _raise,
    "exit": lambda: os._exit(7),
    "crash": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "hang": lambda: threading.Event().wait(),
}
"""What happens in place of a step, or of a reset."""
SHOWN = {"nan": np.nan, "wild": 1e30}
"""What the numbers of an observation are."""
ORDERED = (*BEFORE, *SHOWN, "paid")
ENDS_PROCESS = ("exit", "crash", "hang")


class Chaotic(gymnasium.Wrapper):
    """Writes the steps of training to the ledger, and obeys orders there."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self._ledger, self._orders = Ledger(), Path(os.environ[ORDERS])
        self._training = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self._training = seed in TRAINING_SEEDS  # else it is validated, which replay never hears of
        if self._training:
            self._ledger.reset()
        self._obey(("raise_reset",))
        try:
            return self.env.reset(seed=seed, options=options)
        except BaseException:
            if self._training:
                self._ledger.fault("itself")
            raise

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self._obey(("raise", *ENDS_PROCESS))
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
        except BaseException:
            if self._training:
                self._ledger.fault("itself")
            raise
        shown = self._obey((*SHOWN, "paid"))
        if shown in SHOWN and STATE in observation:
            observation = observation | {STATE: np.full_like(observation[STATE], SHOWN[shown])}
        elif shown:
            reward = 1e30
        if self._training:
            number = self._ledger.step(reward, terminated, truncated, spoilt(info))
            info = {**info, COLUMN: number}
        return observation, reward, terminated, truncated, info

    def close(self) -> None:
        self._ledger.close()
        super().close()

    def _obey(self, kinds: tuple[str, ...]) -> str:
        """Carry out an order of these kinds, if there is one; the one that shows in what follows."""
        given = [kind for kind in os.listdir(self._orders) if kind in kinds] if self._training else []
        for kind in given:
            try:
                os.unlink(self._orders / kind)
            except FileNotFoundError:  # another one was faster
                continue
            self._ledger.fault(kind)
            if kind in BEFORE:
                BEFORE[kind]()
            return kind
        return ""


def _made(entry_point: Any, **kwargs: Any) -> gymnasium.Env:
    creator = load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
    return Chaotic(creator(**kwargs))


def _take_over(env_id: str) -> None:
    """Have whoever makes the environment `env_id` get it in a `Chaotic`."""
    register_installed()
    spec = copy.copy(gymnasium.registry[env_id])
    spec.entry_point = partial(_made, spec.entry_point)
    gymnasium.registry[env_id] = spec


if LEDGER in os.environ:
    _take_over(os.environ[ENV])
