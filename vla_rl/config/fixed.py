"""What a run that goes on cannot change: what its replay, its policy or its episodes are made of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from vla_rl.config import saved
from vla_rl.config.schema import RunConfig
from vla_rl.registry import TASK_KEYS, ConfigError

FIXED = (
    "seed",
    "optimizer",
    "action_space",
    "policy.backbone",
    "policy.head",
    "policy.train",
    "policy.lora",
    "policy.views",
    "policy.remembers",
    "algorithm.type",
    "algorithm.gamma",
    "replay.capacity",
    "replay.stack",
    "train.num_envs",
    "train.checkpoint",
)
OF_ENVS = ("id", "sensors", "image_size", "adapter", *(f"kwargs.{key}" for key in TASK_KEYS))
"""Of each environment; its `kwargs` may become others, but for those that choose its task."""
MOST = 200
"""Characters of a value that are told."""
_ABSENT = object()


def check(kept: str, run: RunConfig, where: Any) -> None:
    """Hold a run's config against the one that it was saved with.

    kept: `told` of that config. where: what was saved, for the message.

    Raises:
        ConfigError: a key that cannot change has; names it, both values, and what to do.
    """
    before, now = json.loads(kept), json.loads(told(run))
    changed = list(_changed(before, now))
    if not changed:
        return
    key, old, new = changed[0]
    more = f" (and {len(changed) - 1} more: {', '.join(key for key, *_ in changed[1:])})" if changed[1:] else ""
    raise ConfigError(
        f"{key}: {where} was saved with {_text(old)}, and now it is {_text(new)}{more}; a run that goes on keeps it: "
        f"leave it out, or start a run of its own from this policy, by train.checkpoint={where} and another run_dir"
    )


def differing(kept: str, run: RunConfig, part: str) -> str:
    """Which keys of a part, such as `algorithm`, a run was saved with otherwise: each with both values."""
    before, now = json.loads(kept)[part], json.loads(told(run))[part]
    keys = [key for key in now if before.get(key, _ABSENT) != now[key]]
    return ", ".join(f"{part}.{key}={_text(now[key])}, saved with {_text(before.get(key))}" for key in keys)


def told(run: RunConfig) -> str:
    """A run's config as JSON, as it is written into its folder."""
    return json.dumps(saved.anchored(run.model_dump(mode="json"), run.plugins))


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Every fixed key that both have, and that differs: it and both values."""
    yield from _differences(before, now, FIXED, "")
    spread, spreads = (config.get("distributed") for config in (before, now))
    if (spread is None) != (spreads is None):  # replay has a column more
        yield "distributed", spread, spreads
    envs, others = ([config["env"], *config["more_envs"]] for config in (before, now))
    if len(envs) != len(others):
        yield "more_envs", len(envs) - 1, len(others) - 1
    for i, (env, other) in enumerate(zip(envs, others, strict=False)):
        yield from _differences(env, other, OF_ENVS, f"more_envs[{i - 1}]." if i else "env.")


def _differences(
    before: Mapping[str, Any], now: Mapping[str, Any], keys: tuple[str, ...], path: str
) -> Iterator[tuple[str, Any, Any]]:
    for key in keys:
        old, new = _at(before, key), _at(now, key)
        if _ABSENT not in (old, new) and old != new:
            yield path + key, old, new


def _at(config: Any, key: str) -> Any:
    """The value of a dotted key; `_ABSENT` where there is none, as in a config of an older version."""
    for name in key.split("."):
        config = config.get(name, _ABSENT) if isinstance(config, Mapping) else _ABSENT
    return config


def _text(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= MOST else f"{text[:MOST]}..."
