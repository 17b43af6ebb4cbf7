"""The config that lies beside a checkpoint: somebody else's, perhaps, and so believed in what it can do no harm with.

What leads out of the checkpoint's folder (a file, an address, a script, the network) is left out, unless the command
line says the same key. Which fields of a component do is marked by `specs.OUTSIDE`; of settings that nobody has
declared, such as those of another package's environment, it is every text that could be a path or an address.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from vla_rl import registry, specs
from vla_rl.config import compose, sources
from vla_rl.config.compose import CONFIG_FILE
from vla_rl.config.sweeps import SWEEP_FILE
from vla_rl.registry import ConfigError

OF_STRANGERS = ("eval", "export")
"""The commands that read anybody's checkpoint; `resume=true` goes on with one's own."""
_LEADS_OUT = re.compile(r"[/\\:~$\0]|^\.")
_HARMLESS_ADDRESS = re.compile(r"data:|about:blank$")
"""Of a page that is in its address itself."""
_STARTED_FROM = {"tracker": None, "demos.path": None, "train.checkpoint": None}
"""What a run needs while it trains, and neither its evaluation nor its export reads."""


@dataclass(frozen=True)
class Saved:
    """A saved config, less where it ran. withheld: what was left out of it, by dotted key."""

    tree: DictConfig
    withheld: dict[str, Any] = field(default_factory=dict)


def to_resume(run_dir: Any) -> Path:
    """The config of the run that `resume=true` goes on with."""
    if not run_dir:
        raise ConfigError("resume: give run_dir=FOLDER too, the folder of the run to go on with")
    file = Path(os.path.expanduser(str(run_dir))) / CONFIG_FILE
    if not file.is_file():
        sweep = "; it is a sweep, which goes on with -m" if file.with_name(SWEEP_FILE).is_file() else ""
        raise ConfigError(f"resume: {run_dir} holds no {CONFIG_FILE}, so there is no run to go on with{sweep}")
    return file


def beside(checkpoint: Any) -> Path | None:
    """The config of the run that made a checkpoint, where it was kept: RUN/checkpoints/STEP/pretrained_model."""
    if not checkpoint:
        return None
    folder = Path(os.path.expanduser(str(checkpoint))).resolve()
    files = (each / CONFIG_FILE for each in (folder, *list(folder.parents)[:3]))
    return next((file for file in files if file.is_file()), None)


def read(file: Path, plugins: Any, own: bool) -> Saved:
    """A saved config as far as it may be believed.

    Args:
        file: its `config.yaml`.
        plugins: the modules that the command line lists; the config cannot widen what may be imported.
        own: whether it is the user's own run, which goes on; then nothing of it is withheld.

    Raises:
        ConfigError: it cannot be read, interpolates, or needs modules that are not listed.
    """
    try:
        tree = sources.read_yaml(file)
    except (OSError, UnicodeDecodeError, OmegaConfBaseException, YAMLError) as error:
        raise ConfigError(f"{file}: {compose.one_line(error)}") from error
    if not isinstance(tree, DictConfig):
        raise ConfigError(f"{file}: expected the keys of a run")
    for key, text in sources.texts(tree):
        if sources.interpolates(text):
            raise ConfigError(
                f"{file}: {key}: holds an interpolation, {text[:60]!r}; a saved config has none, so this one was "
                "written or altered by hand: write the value itself"
            )
    compose.check_plugins(tree, plugins, file)
    tree.run_dir, tree.resume = None, False
    if own:
        return Saved(tree)
    for key, value in _STARTED_FROM.items():
        if OmegaConf.select(tree, key, default=None) is not None:
            OmegaConf.update(tree, key, value)
    listed = plugins if isinstance(plugins, list) else []
    held = {key: (holder, name) for key, holder, name in _leading_out(tree, listed)}
    withheld = {key: _plain(holder[name]) for key, (holder, name) in held.items()}
    for holder, name in held.values():
        del holder[name]
    return Saved(tree, withheld)


def still_withheld(saved: Saved, tree: DictConfig) -> dict[str, Any]:
    """What of it the command line has not said, by key; `tree` is the config as the command line made it."""
    return {key: value for key, value in saved.withheld.items() if not compose.has(tree, key)}


def told(withheld: Mapping[str, Any]) -> str:
    """What was withheld, in a line."""
    asked = "; ".join(f"{key}={str(value)[:200]!r}" for key, value in withheld.items())
    return f"asks for {asked}, which only the command line may choose; left out (say KEY=VALUE to give it)"


def anchored(config: Mapping[str, Any], plugins: Sequence[str] = ()) -> dict[str, Any]:
    """The plain values of a run's config with paths that do not depend on the folder that the program works in."""
    if "${" in json.dumps(config):
        return dict(config)  # which OmegaConf would try to read
    tree = OmegaConf.create(dict(config))
    for key in ("demos.path", "train.checkpoint"):
        if path := OmegaConf.select(tree, key):
            OmegaConf.update(tree, key, os.path.abspath(path))
    source = OmegaConf.select(tree, "policy.backbone", default=None)
    more = [("", source, "source")] if isinstance(source, DictConfig) and "source" in source else []
    for _, holder, name in [*_leading_out(tree, list(plugins)), *more]:
        if isinstance(holder[name], str) and os.path.exists(holder[name]):
            holder[name] = os.path.abspath(holder[name])
    return OmegaConf.to_container(tree)  # type: ignore[return-value]


Held = tuple[str, DictConfig, Any]
"""A dotted key, the mapping that holds its value, and its name in there."""


def _leading_out(tree: DictConfig, plugins: list[str]) -> Iterator[Held]:
    """All that leads out of the checkpoint's folder; what is in several places' reach, once or more."""
    for place, group in compose.PLACES.items():
        # The backbone is a record: whoever acts takes the checkpoint's own weights.
        if group != "backbones":
            yield from _of_components(OmegaConf.select(tree, place, default=None), group, place, plugins)
    if isinstance(tree.get(compose.ENV), DictConfig):
        yield from _of_env(tree[compose.ENV], compose.ENV, plugins)
    for key in (compose.MORE, compose.HELD):
        for index, env in enumerate(tree.get(key) or ()):
            if isinstance(env, DictConfig):
                yield from _of_env(env, f"{key}.{index}", plugins)


def _of_env(env: DictConfig, path: str, plugins: list[str]) -> Iterator[Held]:
    """Those of an environment's sensors and settings."""
    yield from _of_components(env.get("sensors"), "sensors", f"{path}.sensors", plugins)
    kwargs = env.get("kwargs")
    if not isinstance(kwargs, DictConfig):
        return
    declared: Mapping[str, Any] = {}
    if env.get("adapter") is None and env.get("id") in registry.entries("envs"):
        declared = registry.parameters(registry.resolve("envs", env.id))
    for key, value in kwargs.items():
        known = declared.get(str(key))
        if _is_outside(known, value) if known is not None else _could_lead_out(value):
            yield f"{path}.kwargs.{key!s}", kwargs, key


def _of_components(value: Any, group: str, path: str, plugins: list[str]) -> Iterator[Held]:
    """Those of the components that a part of a config holds, at any depth."""
    if isinstance(value, DictConfig):
        known: Mapping[str, Any] = {}
        if isinstance(value.get("type"), str):
            with contextlib.suppress(ConfigError):  # which `validate` tells
                known = registry.parameters(registry.resolve(group, value["type"], plugins, path))
        for key, item in value.items():
            if key in known and _is_outside(known[str(key)], item):
                yield f"{path}.{key!s}", value, key
            else:
                yield from _of_components(item, group, f"{path}.{key!s}", plugins)
    elif isinstance(value, ListConfig):
        for index, item in enumerate(value):
            yield from _of_components(item, group, f"{path}.{index}", plugins)


def _is_outside(declared: Any, value: Any) -> bool:
    """Whether a component's field leads out by this value: nothing, no and an address that is its own page do not."""
    harmless = not value or (isinstance(value, str) and _HARMLESS_ADDRESS.match(value))
    return bool(declared.metadata.get(specs.OUTSIDE)) and not harmless


def _could_lead_out(value: Any) -> bool:
    """Whether a value of a setting that nobody declared may be a path or an address, or holds one."""
    if isinstance(value, str):
        return bool(_LEADS_OUT.search(value)) or os.path.lexists(value)
    plain = _plain(value)
    if isinstance(plain, dict):
        return any(_could_lead_out(item) for name, item in plain.items() if name != "type")  # the registry's to refuse
    return isinstance(plain, list) and any(map(_could_lead_out, plain))


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
