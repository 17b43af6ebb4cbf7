"""What a CUDA graph does, on a processor: operators are recorded with the very tensors that they read and write, and
replayed on these, while Python has no say any more.

Like the real thing, recording changes nothing, whatever looks at a number is refused, and each replay writes its
results to the same places.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vla_rl.models.graphs import Recording

T = TypeVar("T")
aten = torch.ops.aten
WAITS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default}
"""Operators whose result the host has to know before it can go on."""


class _Tape(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self._done: list[tuple[Any, tuple, dict[str, Any], Any]] = []
        self._before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}
        self._own: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if func in WAITS:
            raise RuntimeError(f"{func}: operation not permitted when stream is capturing")
        for value in _tensors((args, kwargs)):
            storage = value.untyped_storage()
            if storage.data_ptr() not in self._own and storage.data_ptr() not in self._before:
                self._before[storage.data_ptr()] = storage, storage.clone()
        made = func(*args, **kwargs)
        self._own |= {_place(value) for value in _tensors(made)} - self._before.keys()
        self._done.append((func, args, kwargs, made))
        return made

    def undo(self) -> None:
        for storage, before in self._before.values():
            storage.copy_(before)

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, made in self._done:
            given = {_place(value) for value in _tensors((args, kwargs))}
            for old, new in zip(_tensors(made), _tensors(func(*args, **kwargs)), strict=True):
                if _place(old) not in given:  # else it is a view of what has been written by now
                    old.view(new.shape).copy_(new)  # it may have been squeezed in place since


def tape_record(work: Callable[[], T], warm_ups: int) -> Recording[T]:
    """Record `work`; see `vla_rl.models.graphs.Record`."""
    for _ in range(warm_ups):
        work()
    tape = _Tape()
    with tape:
        made = work()
    tape.undo()
    return Recording(tape.replay, made)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _place(value: Tensor) -> int:
    return value.untyped_storage().data_ptr()
