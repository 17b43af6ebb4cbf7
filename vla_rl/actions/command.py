"""Commands such as a person gives a computer: a kind, and the arguments that this kind takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from gymnasium import spaces

from vla_rl.actions.choice import Choice
from vla_rl.actions.pointer import Pointer
from vla_rl.actions.text import Characters, Span
from vla_rl.actions.tokens import check_parts, check_tokens, starts, unbound, whole
from vla_rl.registry import nearest
from vla_rl.specs import ActionSpace, Slot, shown

KIND = "kind"


class Commands(spaces.Dict):
    """A Dict space of `kind`, a Discrete, and arguments; which of them count depends on the kind.

    Args:
        takes: for each kind, by name and in the order of the choices, the names of its arguments.
        arguments: the space of each argument.
        names: by argument, what its choices are called, such as keys; of a text, its characters 1, 2, ... (0 ends it).

    Raises:
        ValueError: a kind takes an argument without a space, an argument belongs to no kind, or has not so many names.
    """

    def __init__(
        self,
        takes: Mapping[str, Sequence[str]],
        arguments: Mapping[str, spaces.Space],
        seed: int | None = None,
        names: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.takes = {kind: tuple(names) for kind, names in takes.items()}
        used = {name for names in self.takes.values() for name in names}
        if not self.takes or used != set(arguments) or KIND in used:
            raise ValueError(f"kinds take the arguments {sorted(used)}; there are spaces for {sorted(arguments)}")
        self.names = {argument: tuple(called) for argument, called in (names or {}).items()}
        for argument, called in self.names.items():
            if argument not in arguments or len(called) != _named(arguments[argument]):
                raise ValueError(f"names: {len(called)} do not fit {argument!r}, {arguments.get(argument)}")
        super().__init__({KIND: spaces.Discrete(len(self.takes)), **arguments}, seed=seed)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds' names; `kind` counts them."""
        return tuple(self.takes)

    def command(self, kind: str, **arguments: Any) -> dict[str, Any]:
        """The action of a kind with its arguments; the others hold the first point of their space.

        Raises:
            ValueError: no such kind, or other arguments than it takes.
        """
        if kind not in self.takes or set(arguments) != set(self.takes[kind]):
            raise ValueError(f"kinds and their arguments are {self.takes}; got {kind!r} with {sorted(arguments)}")
        action: dict[str, Any] = {KIND: np.int64(self.kinds.index(kind))}
        for name, space in self.items():
            if name != KIND:
                action[name] = np.asarray(arguments[name], space.dtype) if name in arguments else _first(space)
        return {name: action[name] for name in self}

    def sample(self, mask: Any = None, probability: Any = None) -> dict[str, Any]:
        """A random command; what its kind does not take holds the first point of its space.

        Nothing follows the end of a text, and no span ends before it begins.
        """
        drawn = super().sample(mask, probability)
        kind = self.kinds[int(drawn[KIND])]
        return self.command(kind, **{name: self._said(name, drawn[name]) for name in self.takes[kind]})

    def is_span(self, name: str) -> bool:
        """Whether an argument is a span of words: two equal numbers without names. Other MultiDiscrete are texts."""
        space = self[name]
        pair = isinstance(space, spaces.MultiDiscrete) and space.shape == (2,) and space.nvec[0] == space.nvec[1]
        return bool(pair) and name not in self.names

    def _said(self, name: str, value: Any) -> Any:
        """An argument's value in its one spelling."""
        if self.is_span(name):
            return np.maximum.accumulate(value)
        is_text = isinstance(self[name], spaces.MultiDiscrete) and value.ndim == 1
        return np.where(np.cumsum(value == 0) > 0, 0, value) if is_text else value

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, Commands) and (self.takes, self.names) == (other.takes, other.names)
        return same and super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]  # spaces are mutable


def _named(space: spaces.Space) -> int:
    """How many names an argument's choices have."""
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.max()) - 1
    return int(space.n) if isinstance(space, spaces.Discrete) else 0


def _first(space: spaces.Space) -> Any:
    """The first point of an argument's space: what stands where a kind does not take it."""
    if isinstance(space, spaces.Box):
        return space.low.copy()
    if isinstance(space, spaces.Discrete):
        return np.int64(space.start)
    return np.zeros(space.shape or (), space.dtype)


@dataclass(frozen=True)
class Command:
    """A command over a `Commands` space: the first token says the kind, the others its arguments.

    Arguments are shared by the kinds that take them, so that a click and a drag begin in one place slot. Those that a
    kind does not take may only hold token 0, so every command has one spelling.

    A Box of two is pointed at, MultiDiscrete([W, W]) without names is a span of words, any other MultiDiscrete are
    characters.

    Args:
        camera: the camera whose image is pointed into.
        grid: rows and columns of the places.
        parts: the action spaces of arguments that shall have another than the above, by name.
        kinds: the names of those that a policy may use; None for all.
        takes: which arguments each kind takes; set by `bind`.
        allowed: which kinds are among `kinds`; set by `bind`.
    """

    camera: str = "screen"
    grid: tuple[int, int] = (32, 32)
    parts: Mapping[str, ActionSpace] = field(default_factory=dict)
    kinds: tuple[str, ...] | None = None
    takes: tuple[tuple[str, ...], ...] | None = None
    allowed: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        check_parts(self.parts.values(), "a command")
        if self.kinds is not None and not self.kinds:
            raise ValueError("kinds: at least one; got none")

    def bind(self, space: Any) -> Self:
        """The same, a part fitted to each argument.

        Raises:
            ValueError: not a `Commands` space; parts for arguments or `kinds` that it lacks; or what a part refuses.
        """
        if not isinstance(space, Commands):
            raise ValueError(f"command needs an action space of commands; got {space}")
        names = [name for name in space if name != KIND]
        if self.takes is None and not set(self.parts) <= set(names):
            raise ValueError(f"parts {sorted(self.parts)} are not among the arguments {names}")
        for kind in self.kinds or ():
            if kind not in space.kinds:
                raise ValueError(f"kinds: no {kind!r}; {nearest(kind, space.kinds)}")
        bound = {}
        for name in names:
            part = self.parts.get(name) or self._natural(space, name)
            try:
                bound[name] = part.bind(space[name])
            except ValueError as error:
                raise ValueError(f"parts.{name}: {error}") from error
        allowed = tuple(self.kinds is None or kind in self.kinds for kind in space.kinds)
        return replace(self, parts=bound, takes=tuple(space.takes.values()), allowed=allowed)

    def _natural(self, space: Commands, name: str) -> ActionSpace:
        if isinstance(space[name], spaces.Box):
            return Pointer(self.camera, self.grid)
        if isinstance(space[name], spaces.MultiDiscrete):
            return Span() if space.is_span(name) else Characters()
        return Choice()

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """The kind, then the slots of every argument, in the order of their names."""
        return (Slot(len(self._takes), "choice"), *(slot for part in self.parts.values() for slot in part.slots))

    @cached_property
    def _takes(self) -> np.ndarray:
        """bool [kinds, arguments]: which argument counts."""
        if self.takes is None:
            raise unbound(self)
        return np.array([[name in names for name in self.parts] for names in self.takes], bool).reshape(
            len(self.takes), len(self.parts)
        )

    @cached_property
    def _begins(self) -> tuple[int, ...]:
        return starts(list(self.parts.values()))

    def mask(self, prefix: np.ndarray) -> np.ndarray | None:
        """The allowed kinds at first; then an argument's own mask where the kind takes it, token 0 alone where not."""
        batch, k = prefix.shape
        assert k < len(self.slots), f"a prefix of {k} tokens leaves no slot of {len(self.slots)}"
        if k == 0:
            return None if all(self.allowed) else np.tile(self.allowed, (batch, 1))
        owner = int(np.searchsorted(self._begins, k - 1, side="right")) - 1
        counts = self._takes[prefix[:, 0], owner]
        mask = np.zeros((batch, self.slots[k].choices), bool)
        mask[:, 0] = True
        inner = list(self.parts.values())[owner].mask(prefix[counts, 1 + self._begins[owner] :])
        mask[counts] = True if inner is None else inner
        return mask

    def decode(self, tokens: np.ndarray) -> dict[str, Any]:
        """The command. Raises ValueError for a token other than 0 where the kind takes no argument."""
        chosen = check_tokens(tokens, self.slots)
        action: dict[str, Any] = {KIND: np.int64(chosen[0])}
        for i, (name, part) in enumerate(self.parts.items()):
            own = chosen[1 + self._begins[i] : 1 + self._begins[i + 1]]
            if not self._takes[chosen[0], i] and own.any():
                raise ValueError(f"kind {chosen[0]} takes no {name!r}; expected tokens 0, got {own.tolist()}")
            action[name] = part.decode(own)
        return action

    def encode(self, action: Any) -> np.ndarray:
        """The tokens of a command; 0 for what its kind does not take, whatever it holds.

        Raises:
            ValueError: another set of keys, or a kind that there is not or that is not allowed.
        """
        if not isinstance(action, Mapping) or set(action) != {KIND, *self.parts}:
            raise ValueError(f"expected a command with the keys {[KIND, *self.parts]}; got {shown(action)}")
        kind = whole(action[KIND], "a kind")
        if not 0 <= kind < len(self._takes):
            raise ValueError(f"expected a kind from 0 to {len(self._takes) - 1}; got {kind}")
        if not self.allowed[kind]:
            raise ValueError(f"expected one of the kinds {', '.join(self.kinds or ())}; got number {kind}")
        pieces = [
            part.encode(action[name]) if self._takes[kind, i] else np.zeros(len(part.slots), np.int64)
            for i, (name, part) in enumerate(self.parts.items())
        ]
        return np.concatenate([[kind], *pieces]).astype(np.int64)
