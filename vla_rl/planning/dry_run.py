"""Work on tensors that have shapes and no memory, and a ledger of the bytes that they would take.

What a run computes is computed here by the same code, on fake tensors of torch. Whole numbers and truth values stay
real, so that code may look at them: at the ids of a text, or the sizes of pictures.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

CPU = torch.device("cpu")
FEW = 4096
"""Floats that are worked out of what is known stay known, if they are so few: some models count places with them."""
_ASKED = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default)
"""What asks for a value that nobody knows: it is told 1, or yes."""
_AT = torch.ops.aten.index.Tensor


class Ledger(TorchDispatchMode):
    """Counts the bytes of all tensors that are made while it is active, as long as something refers to them.

    Attributes:
        now, peak: bytes, in all and at most.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.now = self.peak = 0
        self._known: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        named = kwargs or {}
        given = [each for each in tree_leaves((args, named)) if isinstance(each, torch.Tensor)]
        unknown = not all(_is_known(each) for each in given)
        if unknown and func in _ASKED:
            return given[0].dtype == torch.bool or 1
        if unknown and func is _AT:
            args = args[0], _places(args[1])
        if unknown or not given:
            found = func(*args, **named)
            unknown |= any(each.is_floating_point() for each in _tensors(found))
        if not unknown:
            with unset_fake_temporarily():
                found = func(*args, **named)
            found = tree_map_only(
                torch.Tensor, lambda each: each if _is_known(each) else self.fake.from_tensor(each), found
            )
        for each in _tensors(found):
            self.note(each)
        return found

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """A tensor that nobody has counted yet, as if it lay on the CPU."""
        return self.faked(torch.empty(shape, dtype=dtype, device="meta"))

    def faked(self, tensor: torch.Tensor) -> torch.Tensor:
        """One of torch's device "meta" as if it lay on the CPU."""
        return self.fake.fake_tensor_converter.from_meta_and_device(self.fake, tensor, CPU)

    def note(self, tensor: torch.Tensor) -> None:
        """Count a tensor's memory, once."""
        storage = tensor.untyped_storage()
        place = storage._cdata
        if place in self._known:
            return
        size = storage.nbytes()

        def gone(_: Any) -> None:
            del self._known[place]
            self.now -= size

        self._known[place] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)


@contextmanager
def dry_run() -> Iterator[Ledger]:
    """What is done meanwhile is done on tensors without memory; their bytes are in the ledger."""
    ledger = Ledger()
    # All is on the one device that there is; and a fake parameter cannot be moved.
    still = patch.object(nn.Module, "to", lambda module, *_, **__: module)
    arrays = patch.object(FakeTensor, "numpy", _zeros, create=True)
    with ledger.fake, ledger, still, arrays, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
        yield ledger


def without_memory(module: nn.Module, ledger: Ledger) -> None:
    """Have a module that was made on torch's device "meta" take part in a dry run, as if it lay on the CPU."""
    made: dict[int, nn.Parameter] = {}
    for each in module.modules():
        for name, parameter in each._parameters.items():
            if parameter is not None and parameter.is_meta:
                if id(parameter) not in made:
                    made[id(parameter)] = nn.Parameter(ledger.faked(parameter.data), parameter.requires_grad)
                each._parameters[name] = made[id(parameter)]
        for name, buffer in each._buffers.items():
            if buffer is not None and buffer.is_meta:
                each._buffers[name] = ledger.faked(buffer)


def _is_known(tensor: torch.Tensor) -> bool:
    return not isinstance(tensor, FakeTensor) and (not tensor.is_floating_point() or tensor.numel() <= FEW)


def _zeros(tensor: torch.Tensor) -> np.ndarray:
    """What an array of a tensor holds whose values nobody knows: such as the first token of each slot."""
    return np.zeros(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def _tensors(values: Any) -> list[torch.Tensor]:
    return [each for each in tree_leaves(values) if isinstance(each, torch.Tensor)]


def _places(indices: list[torch.Tensor | None]) -> list[torch.Tensor | None]:
    """The same, truth values as the places where they hold: of which there are so many, or all where nobody knows."""
    found: list[torch.Tensor | None] = []
    for index in indices:
        if index is None or index.dtype != torch.bool:
            found.append(index)
            continue
        with unset_fake_temporarily():
            known = torch.ones(index.shape, dtype=torch.bool) if isinstance(index, FakeTensor) else index
            found += known.nonzero(as_tuple=True)
    return found
