"""What `vla-rl audit pick` means: a bare word for an environment, as overrides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import gymnasium

from vla_rl import paths, registry
from vla_rl.config import compose
from vla_rl.envs.make import register_installed
from vla_rl.registry import ConfigError, nearest


def overrides_of(words: Sequence[str], config_dir: Path | None = None) -> list[str]:
    """The overrides that `words` mean: those with a "=" as they are, a bare one as an environment.

    A bare word is a file of the config group `env` (`pick`), a Gymnasium id (`Reacher-v5`), or one of our own ids in
    short (`press_in_order` is `vla_rl/PressInOrder-v0`); an environment without a file shows its own observations.
    The modules that an override lists as `plugins` are imported, so that what they register is known.

    Raises:
        ConfigError: a bare word that names no environment; the message has the nearest one.
    """
    _, values = compose.split([word for word in words if "=" in word], config_dir)
    for override in values:
        listed = override.value()
        if override.key_or_group == "plugins" and isinstance(listed, list):
            registry.import_listed([str(name) for name in listed])
    return [override for word in words for override in ([word] if "=" in word else _environment(word, config_dir))]


def _environment(word: str, config_dir: Path | None) -> list[str]:
    folders = [paths.shipped("configs") / "env", *([config_dir / "env"] if config_dir else [])]
    files = paths.named_configs(*folders)
    if word in files:
        return [f"env={word}"]
    register_installed()
    short = {_short(env_id): env_id for env_id in gymnasium.registry if env_id.startswith("vla_rl/")}
    env_id = word if word in gymnasium.registry else short.get(word.replace("_", "").lower())
    if env_id is None:
        raise ConfigError(
            f"no environment {word!r}; {nearest(word, [*files, *short, *gymnasium.registry])} (One of your own: "
            "--config-dir names the folder of its config, plugins=[...] the module that registers it.)"
        )
    return [f"env.id={env_id}", "env.sensors=null", "env.kwargs={}"]


def _short(env_id: str) -> str:
    return re.sub(r"-v\d+$", "", env_id.rpartition("/")[2]).lower()
