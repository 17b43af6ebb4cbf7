"""Work on the device that is recorded once and then replayed: a CUDA graph launches all of its kernels at once.

A small network on a GPU waits for its launches: of `tiny`, a decision at batch 1 took 11 milliseconds on an H200,
nearly all of it for launches. A recording has shapes, addresses and every choice of Python's baked in. So it is kept
for inputs of one shape, tried against the work itself before it is trusted, and made anew where weights have moved.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
SEEN = 2
"""How many times inputs of a shape are worked on as they are, before they are recorded."""
MOST = 16
"""Recordings of one work; inputs of further shapes are worked on as they are."""
_WARM_UPS = 3
"""PyTorch's own advice for what is captured: what is set up at a first call must not be recorded."""
_CLOSE = 1e-2
"""How far replayed numbers may be off, of 1 and their size: kernels may be chosen otherwise, in half precision too."""
_log = logging.getLogger(__name__)


@dataclass
class Recording(Generic[T]):
    """What was recorded. made: what each replay writes anew, always at the same addresses."""

    replay: Callable[[], Any]
    made: T


Record = Callable[[Callable[[], T], int], Recording[T]]
"""(work, warm-ups before) -> its recording; work takes nothing, and does the same to the same addresses each time."""


def cuda_record(work: Callable[[], T], warm_ups: int) -> Recording[T]:
    """A CUDA graph of the work. Raises RuntimeError where it waits for the device, or copies from the host."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(warm_ups):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    # Of this thread alone: another one prepares batches meanwhile, in page-locked memory that it may have to ask for.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        made = work()
    return Recording(graph.replay, made)


def recorder(device: torch.device, wanted: bool = True) -> Record | None:
    """What records on `device`; None where all work is done as it is."""
    return cuda_record if wanted and device.type == "cuda" else None


class Static(Generic[T]):
    """Inputs at addresses that stay; `fill` copies others of the same shapes there.

    Attributes:
        tree: a dataclass, dict, list or tuple of tensors and of anything else, as it was first given.
    """

    def __init__(self, tree: T) -> None:
        self.tree: T = changed(tree, torch.clone)
        self._own = list(tensors(self.tree))
        self._last: list[tuple[Tensor, int] | None] = [None] * len(self._own)

    def fill(self, tree: T) -> None:
        """Take the values of others; what is the same tensor as the last time, unchanged since, is there already."""
        pairs: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
        for at, (own, given) in enumerate(zip(self._own, tensors(tree), strict=True)):
            last = self._last[at]
            if last is None or last[0] is not given or last[1] != _version(given):
                into, source = pairs.setdefault(own.dtype, ([], []))
                into.append(own)
                source.append(given)
                self._last[at] = given, _version(given)
        for into, source in pairs.values():
            torch._foreach_copy_(into, source)


class Replayed(Generic[T]):
    """A pure function of tensors on the device, recorded for each shape of them where something records.

    What it returns is overwritten by the next call with inputs of the same shape.

    Args:
        work: takes a tree of tensors, see `Static`; draws nothing random, and changes nothing.
        record: None: `work` is called as it is.
        weights: what else it reads; where one of them has moved, what was recorded is forgotten.
    """

    def __init__(
        self, work: Callable[[Any], T], record: Record | None, weights: Callable[[], Iterable[Tensor]]
    ) -> None:
        self._work, self._record, self._weights = work, record, weights
        self._known: dict[Hashable, tuple[Static[Any], Recording[T]]] = {}
        self._seen: dict[Hashable, int] = {}
        self._held: list[Tensor] = []
        self._places: list[int] = []

    @torch.no_grad()
    def __call__(self, given: Any) -> T:
        if self._record is None:
            return self._work(given)
        self._check_places()
        key = shape_of(given)
        if key not in self._known and not self._begin(key, given):
            return self._work(given)
        static, recording = self._known[key]
        static.fill(given)
        recording.replay()
        return recording.made

    def _begin(self, key: Hashable, given: Any) -> bool:
        """Record inputs of a shape that has come often enough; whether there is a recording now."""
        self._seen[key] = self._seen.get(key, 0) + 1
        if self._seen[key] <= SEEN or len(self._known) >= MOST:
            return False
        assert self._record is not None
        static = Static(given)
        try:
            recording = self._record(lambda: self._work(static.tree), _WARM_UPS)
            off = self._off(static, recording, given)
        except (RuntimeError, NotImplementedError) as error:
            return self._give_up(f"it cannot be recorded ({str(error).splitlines()[0][:120]})")
        if off > _CLOSE:
            return self._give_up(f"what was recorded is off by {off:.2g}")
        self._known[key] = static, recording
        self._held = list(self._weights())
        self._places = [weight.data_ptr() for weight in self._held]
        return True

    def _off(self, static: Static[Any], recording: Recording[T], given: Any) -> float:
        """How far the recording is from the work itself, on these inputs and on others of the same shape."""
        most = 0.0
        for inputs in (changed(given, _other), given):
            static.fill(inputs)
            recording.replay()
            wanted = self._work(inputs)
            most = max([most, *map(_distance, tensors(recording.made), tensors(wanted))])
        return most

    def _give_up(self, why: str) -> bool:
        _log.warning("CUDA graphs: decisions are made without them: %s", why)
        self._record, self._known = None, {}
        return False

    def _check_places(self) -> None:
        """Forget everything where a weight has moved."""
        if any(weight.data_ptr() != place for weight, place in zip(self._held, self._places, strict=True)):
            self._known, self._seen, self._held, self._places = {}, {}, [], []


def tensors(tree: Any) -> Iterator[Tensor]:
    """The tensors of a tree, in order."""
    if isinstance(tree, Tensor):
        yield tree
    else:
        for _, value in _children(tree):
            yield from tensors(value)


def changed(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same tree with other tensors."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, dict):
        return {key: changed(value, change) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(changed(value, change) for value in tree)
    if is_dataclass(tree) and not isinstance(tree, type):
        return replace(tree, **{key: changed(value, change) for key, value in _children(tree)})
    return tree


def shape_of(tree: Any) -> Hashable:
    """What inputs must have in common for one recording: shapes, dtypes, and all that is no tensor."""
    if isinstance(tree, Tensor):
        return tuple(tree.shape), tree.dtype
    children = _children(tree)
    return (type(tree), *((key, shape_of(value)) for key, value in children)) if children else (type(tree), repr(tree))


def _version(value: Tensor) -> int:
    """How many times it was changed in place; another number each time where nobody counts."""
    return time.perf_counter_ns() if value.is_inference() else value._version


def _children(tree: Any) -> list[tuple[Any, Any]]:
    if isinstance(tree, dict):
        return list(tree.items())
    if isinstance(tree, list | tuple):
        return list(enumerate(tree))
    if is_dataclass(tree) and not isinstance(tree, type):
        return [(field.name, getattr(tree, field.name)) for field in fields(tree)]
    return []


def _other(value: Tensor) -> Tensor:
    """Other pictures and numbers; token ids and masks stay, since not all of them would make sense."""
    if value.dtype == torch.uint8:
        return ~value
    return -value if value.is_floating_point() else value


def _distance(one: Tensor, other: Tensor) -> float:
    if not one.is_floating_point():
        return float((one != other).any())
    off = (one.double() - other.double()).abs() / (1 + other.double().abs())
    same = (one == other) | (one.isnan() & other.isnan())
    return float(torch.where(same, 0.0, off.nan_to_num(nan=torch.inf)).amax()) if off.numel() else 0.0
