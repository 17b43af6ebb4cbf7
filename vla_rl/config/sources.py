"""YAML files as somebody may have sent them: of bounded size, and nothing in them reads what lies outside."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig, ListConfig, OmegaConf

from vla_rl.registry import ConfigError

MOST_BYTES, MOST_NODES, MOST_DEPTH = 1 << 18, 1 << 15, 40
"""Of a file, of the values in it once every alias is written out, and of what lies within one another."""
SCHEME = "vla-rl"
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTERPOLATION = re.compile(r"(\\*)\$\{")


def read_yaml(file: Path) -> DictConfig | ListConfig:
    """What a YAML file holds.

    Raises:
        ConfigError: it is too large, or aliases in it stand for too much; names it.
        OSError, YAMLError, OmegaConfBaseException: it cannot be read, is no YAML, or no config.
    """
    with open(file, encoding="utf-8") as stream:
        text = stream.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise ConfigError(f"{file}: more than {MOST_BYTES} characters; no config is so long")
    _check_size(text, file)
    # From a stream, since an error would quote a text.
    return OmegaConf.load(io.StringIO(text))


def flat(tree: Any, key: str = "") -> dict[str, Any]:
    """A tree of mappings by dotted key; lists are values."""
    if not isinstance(tree, dict) or not tree:
        return {key: tree}
    inner = (flat(item, f"{key}.{name}".lstrip(".")) for name, item in tree.items())
    return {path: value for part in inner for path, value in part.items()}


def texts(tree: Any, key: str = "") -> list[tuple[str, str]]:
    """Every text of a config, unresolved, with its dotted key; keys are texts too."""
    value = OmegaConf.to_container(tree, resolve=False) if isinstance(tree, DictConfig | ListConfig) else tree
    if isinstance(value, str):
        return [(key, value)]
    if isinstance(value, dict):
        pairs = [(f"{key}.{name!s}".lstrip("."), item) for name, item in value.items()]
        return [(path, path) for path, _ in pairs] + [found for path, item in pairs for found in texts(item, path)]
    if isinstance(value, list):
        return [found for index, item in enumerate(value) for found in texts(item, f"{key}[{index}]")]
    return []


def interpolates(text: str) -> bool:
    """Whether OmegaConf would put anything else in the place of a part of this text."""
    return any(len(match[1]) % 2 == 0 for match in _INTERPOLATION.finditer(text))


def resolves(text: str) -> bool:
    """Whether an interpolation of this text asks a resolver (`${oc.env:HOME}`), and not for another key (`${seed}`)."""
    depth, place = 0, 0
    while place < len(text):
        opening = _INTERPOLATION.match(text, place)
        if opening:
            depth += len(opening[1]) % 2 == 0
            place = opening.end()
            continue
        depth -= text[place] == "}" and depth > 0
        if depth and text[place] == ":":
            return True
        place += 1
    return False


class UserFiles(FileConfigSource):
    """The files of `--config-dir`, for Hydra. One may refer to other keys, and to other files of its folder.

    Raises ConfigError where one does more.
    """

    @staticmethod
    def scheme() -> str:
        """Of the folder's address."""
        return SCHEME

    def load_config(self, config_path: str) -> ConfigResult:
        """One file."""
        file, root = Path(self.path, self._normalize_file_name(config_path)), Path(self.path).resolve()
        if not file.resolve().is_relative_to(root):
            raise ConfigError(f"{file}: leads out of {root}; copy the file there")
        tree = read_yaml(file)
        for key, text in texts(tree):
            if resolves(text):
                raise ConfigError(
                    f"{file}: {key}: {text[:60]!r} asks for what lies outside the config, which only the command line "
                    f"may: give {key}='...' there"
                )
        for choice in texts(tree.get("defaults") if isinstance(tree, DictConfig) else None, "defaults"):
            if ".." in choice[1]:
                raise ConfigError(f"{file}: {choice[0]}: {choice[1]!r} leads out of the folder")
        with open(file, encoding="utf-8") as stream:
            header = ConfigSource._get_header_dict(stream.read(512))
        return ConfigResult(config=tree, path=f"{SCHEME}://{self.path}", provider=self.provider, header=header)


SourcesRegistry.instance().register(UserFiles)


def _check_size(text: str, file: Path) -> None:
    """Raise ConfigError where a text's values are too many, before any is made."""
    sizes: dict[str, int] = {}  # of what an anchor names
    open_: list[tuple[str | None, int]] = []  # of what is not complete yet: its anchor, and how many values were before
    count = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ConfigError(
                    f"{file}: the alias *{event.anchor} stands for nothing, or lies in what it stands for"
                )
            count += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            sizes |= {event.anchor: 1} if event.anchor else {}
        elif isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, count))
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_.pop()
            sizes |= {anchor: count - before} if anchor else {}
        if count > MOST_NODES or len(open_) > MOST_DEPTH:
            raise ConfigError(
                f"{file}: more than {MOST_NODES} values, its aliases written out, or nested deeper than {MOST_DEPTH}; "
                "no config is so large"
            )
