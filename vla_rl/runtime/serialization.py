"""State on disk without pickle: nested tensors, numbers and texts as safetensors and JSON; random states.

Of our own, since torch.save writes a pickle, and safetensors knows only a flat table of tensors: the tree beside it
holds the nesting and whatever is no tensor.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

TENSORS, TREE = "state.safetensors", "state.json"
SMALL = 32
"""Arrays of more entries lie among the tensors, as bytes."""


def save_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write nested dicts, lists and tuples of tensors, arrays, numbers, texts, bools and None.

    Dicts may have keys of str or int, as optimisers have. Tensors go to the CPU, and each is stored on
    its own, so tensors that shared memory do not when they come back.

    Raises:
        TypeError: a value of another type; names where it lies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, torch.Tensor] = {}
    tree = _pack(state, "state", tensors)
    save_file(tensors, folder / TENSORS)
    (folder / TREE).write_text(json.dumps(tree), "utf-8")


def check_state(state: Any) -> None:
    """Raise TypeError where `save_state` could not write this value."""
    _pack(state, "state", {})


def load_state(folder: Path) -> dict[str, Any]:
    """What `save_state` wrote, its tensors on the CPU.

    Raises:
        ValueError: a file is missing or damaged; names it.
    """
    path = folder / TREE
    try:
        tree = json.loads(path.read_text("utf-8"))
        path = folder / TENSORS
        tensors = load_file(path)
        path = folder / TREE
        state = _unpack(tree, tensors)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error
    if not isinstance(state, dict):
        raise ValueError(f"{path}: expected the entries of a state, got {type(state).__name__}")
    return state


def seed_all(seed: int, *of: int) -> np.random.Generator:
    """Seed Python's, numpy's and torch's global random numbers (CUDA's too), and give a generator besides.

    Each has a stream of its own; so do those of any other `seed`, and of other numbers `of`, such as a process's rank.
    """
    for_python, for_numpy, for_torch, own = np.random.SeedSequence(seed, spawn_key=of).spawn(4)
    random.seed(int.from_bytes(for_python.generate_state(8).tobytes(), "little"))
    np.random.seed(for_numpy.generate_state(8))
    torch.manual_seed(int(for_torch.generate_state(1, np.uint64)[0]))
    return np.random.default_rng(own)


def load_entry(folder: Path, name: str, *default: Any) -> Any:
    """The number, text, bool or None that `save_state` wrote under `name`, without reading any tensor.

    default: what stands for an entry that an older version did not write.

    Raises:
        ValueError: the file is missing or damaged, or holds no such entry, and there is no default; names it.
    """
    path = folder / TREE
    try:
        written = dict(json.loads(path.read_text("utf-8"))["dict"])
        return written.get(name, *default) if default else written[name]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: {name} cannot be read: {error}") from error


def rng_state(generator: np.random.Generator | None = None) -> dict[str, Any]:
    """The states of Python's, numpy's and torch's global random numbers (CUDA's too), and of `generator`."""
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (name, np.asarray(keys), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "generator": None if generator is None else generator.bit_generator.state,
    }


def set_rng_state(state: Mapping[str, Any], generator: np.random.Generator | None = None) -> None:
    """Put `rng_state`'s states back. CUDA's are left out where the number of devices is another.

    Raises:
        ValueError: `generator` is of another kind than the saved one.
    """
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    if generator is not None:
        if state["generator"] is None:
            raise ValueError("the saved state holds none of a generator")
        generator.bit_generator.state = state["generator"]


def _pack(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    """`value` for JSON: a list is itself, all that JSON lacks is {kind: content}."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value.item() if isinstance(value, np.generic) else value
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        if value.size > SMALL or not value.size:  # a list would not tell the shape of an empty one
            name = str(len(tensors))
            tensors[name] = torch.from_numpy(value.reshape(-1).view(np.uint8).copy())
            return {"bytes": [name, value.dtype.str, list(value.shape)]}
        return {"array": [value.dtype.str, value.tolist()]}
    if isinstance(value, np.generic):
        return _pack(value.item(), path, tensors)
    if isinstance(value, (list, tuple)):
        items = [_pack(item, f"{path}[{i}]", tensors) for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, Mapping) and all(type(key) in (str, int) for key in value):
        return {"dict": [[key, _pack(item, f"{path}.{key}", tensors)] for key, item in value.items()]}
    raise TypeError(f"{path}: cannot save a {type(value).__name__}")


def _plain_dtype(name: Any) -> np.dtype:
    dtype = np.dtype(name)
    if dtype.kind not in "biuf":
        raise ValueError(f"{name!r} is no plain number")
    return dtype


def _unpack(tree: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(tree, list):
        return [_unpack(item, tensors) for item in tree]
    if not isinstance(tree, dict):
        return tree
    ((kind, content),) = tree.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "array":
        return np.array(content[1], _plain_dtype(content[0]))
    if kind == "bytes":
        name, dtype, shape = content
        return tensors[name].numpy().view(_plain_dtype(dtype)).reshape(shape)
    if kind == "tuple":
        return tuple(_unpack(item, tensors) for item in content)
    if kind == "dict":
        return {key: _unpack(item, tensors) for key, item in content}
    raise ValueError(f"unknown kind {kind!r}")
