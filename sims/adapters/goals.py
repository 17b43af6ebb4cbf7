"""Who decides what an episode is about: its seed, also where a package would draw from a short list of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium

from vla_rl.registry import ConfigError


def by_seed(env: gymnasium.Env, kwargs: Mapping[str, Any]) -> None:
    """Let Meta-World draw each episode's goal afresh, as its `goal_observable` environments do.

    Its MT1 draws from 50 goals that are fixed when it is made. Held-out episodes would have those of demonstrations.

    Raises:
        ConfigError: `kwargs` ask for such a list.
    """
    if not (env.has_wrapper_attr("toggle_sample_tasks_on_reset") and hasattr(env.unwrapped, "seeded_rand_vec")):
        return
    for name in ("seed", "num_goals"):
        if kwargs.get(name) is not None:
            raise ConfigError(
                f"env.kwargs.{name}: {kwargs[name]!r} makes a list of goals, which demonstrations and held-out "
                "episodes would share; set it to null: each episode's own seed draws its goal"
            )
    inner: Any = env.unwrapped
    inner.set_task(env.get_wrapper_attr("tasks")[0])  # says what is observed; its goal is drawn over
    env.get_wrapper_attr("toggle_sample_tasks_on_reset")(False)
    inner.seeded_rand_vec, inner._freeze_rand_vec = True, False
