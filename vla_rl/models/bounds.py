"""What a model's folder may ask for, whoever wrote it: no more memory than its weights take, and no file elsewhere.

A model is made twice: first without memory (torch's device "meta"), held against the size of its files, and then.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.nn.modules import module as hooks
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.utils import cached_file

from vla_rl.models.families import attention_of, family_of
from vla_rl.paths import check_sums

M = TypeVar("M", bound=nn.Module)
TOKENIZER = "tokenizer_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
MOST_NUMBER = 1 << 24
"""Of the whole numbers of a config, but for those of a wave's length (`rope_theta`)."""
MOST_LAYERS = 512
"""Of a config whose weights are fewer: it may speak of layers that it does not have."""
_ENTRY = 64
"""Bytes that a tensor takes in a file's header, at least."""
_SLACK = 1 << 22
"""Buffers are in no file: positions, masks, a table of waves."""
_MADE_OF_OTHERS = ("backbone", "use_pretrained_backbone", "use_timm_backbone", "timm_config", "transformers_weights")
_ELSEWHERE = ("timm_wrapper", "timm_backbone")
"""Kinds of models, and keys of configs, that name weights or code of another place."""


def check_source(source: str) -> Any:
    """The config of a model's folder, or of a hub id, once all that is said above holds of it.

    Raises:
        ValueError: it does not, or the model is of no family that is known.
    """
    path = Path(source)
    if path.is_dir():
        check_sums(path)
    if path.is_dir() and not (path / "config.json").is_file():
        raise ValueError(f"backbone {source!r}: the folder lacks config.json")
    if not path.is_dir() and (path.is_absolute() or source.startswith(".") or source.count("/") != 1):
        raise ValueError(f"backbone {source!r}: no such folder, and not a hub id such as 'owner/name'")
    if (path / "adapter_config.json").is_file():
        raise ValueError(f"backbone {source!r}: adapters of a model that lies elsewhere; merge them into it first")
    try:
        found = cached_file(source, "config.json")
    except OSError as error:
        raise ValueError(f"backbone {source!r}: neither a folder nor to be had from the hub: {error}") from error
    assert found is not None, source
    files = weight_files(source)
    check_config(Path(found), files)
    tokenizer = _part(source, TOKENIZER)
    if tokenizer is not None:
        check_tokenizer(tokenizer.parent)
    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    family_of(config)
    with without_memory(size_of(files), source):
        AutoModelForImageTextToText.from_config(
            config, attn_implementation=attention_of(config), trust_remote_code=False
        )
    return config


def weight_files(source: str) -> list[Path]:
    """The files of a model's weights, of a folder or a hub id.

    Raises:
        ValueError: there are none of safetensors; or the index names one that lies elsewhere.
    """
    found = _part(source, INDEX)
    if found is None:
        single = _part(source, WEIGHTS)
        if single is None:
            raise ValueError(
                f"backbone {source!r}: no {WEIGHTS}; weights are read from safetensors only, never from a pickle "
                "(pytorch_model.bin), which may run any code: load it where you trust it, and save_pretrained"
            )
        return [single]
    try:
        names = sorted(set(json.loads(found.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{found} is damaged: {error}") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise ValueError(f"{found}: {name!r} is no file of safetensors beside it")
    files = [_part(source, name) for name in names]
    if not names or None in files:
        raise ValueError(f"{found}: lists {names}, and not all of them are there")
    return [file for file in files if file is not None]


def check_config(path: Path, files: Sequence[Path]) -> None:
    """Look at a transformers config before transformers does.

    Args:
        path: the `config.json`. files: those of the weights.

    Raises:
        ValueError: it is damaged, asks for more layers than there are weights, for a number beyond MOST_NUMBER, or for
            weights or code that lie elsewhere; names the key.
    """
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    tensors = sum(len(shapes(file)) for file in files)
    for key, value in _entries(config):
        name = key.rpartition(".")[2]
        if isinstance(value, bool) or value is None:
            if value and name in _MADE_OF_OTHERS:
                raise ValueError(f"{path}: {key}: names weights of another place, which are not taken")
        elif isinstance(value, int):
            layers = any(word in name for word in ("layers", "depth", "blocks", "num_labels"))
            most = max(tensors, MOST_LAYERS) if layers else MOST_NUMBER
            if abs(value) > most and "theta" not in name:
                raise ValueError(f"{path}: {key}: {value} is too much; at most {most} suits the {tensors} weights")
        elif name in _MADE_OF_OTHERS or value in _ELSEWHERE or ("implementation" in name and "/" in str(value)):
            raise ValueError(
                f"{path}: {key}: {str(value)[:60]!r} names weights or code of another place; none is taken"
            )


def check_tokenizer(folder: Path) -> None:
    """Raise ValueError where a `tokenizer_config.json` names a file: a saved one never does, and it would be read."""
    path = folder / TOKENIZER
    if not path.is_file():
        return
    try:
        config = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    for key, value in _entries(config):
        if isinstance(value, str) and key.endswith("_file"):
            raise ValueError(f"{path}: {key}: names the file {value[:60]!r}; a tokenizer's files lie beside it")


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Of each tensor of a file, read from its header alone. Raises ValueError where that is damaged."""
    try:
        with safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def size_of(files: Sequence[Path]) -> int:
    """Of files together, in bytes."""
    return sum(file.stat().st_size for file in files)


@contextmanager
def without_memory(size: int, where: object) -> Iterator[None]:
    """Modules that are made meanwhile take no memory, and may ask for no more than their weights take.

    size: of the weights, in entries or in bytes, of which an entry takes one at least. where: they lie.

    Raises:
        ValueError: one asks for more.
    """
    left = 2 * size + _SLACK  # tied weights are counted twice

    def count(owner: nn.Module, name: str, value: torch.Tensor | None) -> None:
        nonlocal left
        left -= 0 if value is None else value.numel() + _ENTRY
        if left < 0:
            raise ValueError(
                f"{where}: its config asks for more weights than its {size} bytes hold (at "
                f"{type(owner).__name__}.{name})"
            )

    counting = [
        hooks.register_module_parameter_registration_hook(count),
        hooks.register_module_buffer_registration_hook(count),
    ]
    try:
        with torch.device("meta"):
            yield
    finally:
        for hook in counting:
            hook.remove()


def filled(make: Callable[[], M], state: Any, where: object) -> M:
    """What `make` makes, with the weights of its saved state dict; first it is held against the memory of those.

    Raises:
        ValueError: it does; or they do not fit.
    """
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{where}: expected weights by name, got {type(state).__name__}")
    with without_memory(sum(value.numel() for value in state.values()), where):
        make()
    made = make()
    try:
        made.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{where}: its weights do not fit its settings: {error}") from error
    return made


def _part(source: str, name: str) -> Path | None:
    found = cached_file(source, name, _raise_exceptions_for_missing_entries=False)
    return None if found is None else Path(found)


def _entries(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """All that is no mapping and no list, with its dotted key."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _entries(item, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        for item in value:
            yield from _entries(item, key)
    else:
        yield key, value
