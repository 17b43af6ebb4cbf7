"""What a collector would write to replay, gathered to be sent to where the replay is: each frame once, and coded.

Shapes: N rows of some lanes, turn after turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vla_rl.replay import EpisodeListener, ReplayBuffer
from vla_rl.replay.coding import Coded, choose, encode
from vla_rl.specs import IMAGES, Signal


@dataclass(frozen=True)
class Parcel:
    """What some lanes did, in order.

    version: of the policy that acted. rows: arguments of `ReplayBuffer.add` by name, of N rows; of frames, `coded` has
    those of each camera, those of a lane together: `order` int64 [N] are their rows. turns: for each call of `add`,
    the lanes whose episodes are to be forgotten before it, and its rows' number. decisions: that were made. valid,
    invalid: episodes that ended; error: what was said of an invalid one. tallies: see `Tallies`.
    """

    version: int
    rows: dict[str, Any]
    coded: dict[str, Coded]
    order: np.ndarray
    turns: list[tuple[list[int], int]]
    decisions: int = 0
    valid: int = 0
    invalid: int = 0
    error: str = ""
    tallies: dict[str, list[float]] = field(default_factory=dict)

    def deliver(self, replay: ReplayBuffer, first: int, signals: Mapping[str, np.ndarray]) -> None:
        """Write all to a replay, in which the sender's lanes begin at number `first`.

        signals: what the sender does not know of its lanes, [all lanes of the replay, ...] by name.

        Raises:
            ValueError: the frames are damaged.
        """
        rows = dict(self.rows)
        if rows:
            place = np.argsort(self.order)
            rows["observation"] = rows["observation"] | {key: each.decode(place) for key, each in self.coded.items()}
            rows["lanes"] = lanes = rows["lanes"] + first
            rows["signals"] = rows["signals"] | {name: values[lanes] for name, values in signals.items()}
        begin = 0
        for forgotten, count in self.turns:
            if forgotten:
                replay.discard([first + lane for lane in forgotten])
            if count:
                replay.add(**part_of(rows, slice(begin, begin + count)))
            begin += count


class Outbox:
    """Stands in for a replay where a collector acts for one elsewhere, and gathers what it is told into parcels.

    stack: frames that the policy sees at once. signals: that the replay's rows hold. caches: whether they hold
    features.
    """

    demonstrated = 0
    """Nobody takes over here."""

    def __init__(self, stack: int, signals: Sequence[Signal], caches: bool) -> None:
        self.stack, self.signals, self._caches = stack, tuple(signals), caches
        self._parts: list[dict[str, Any]] = []
        self._turns: list[tuple[list[int], int]] = []
        self._forgotten: list[int] = []
        self._codecs: dict[str, str] = {}

    def listen(self, listener: EpisodeListener) -> None:
        """Nobody hears of episodes here: the replay tells those who listen to it."""

    def add(self, **rows: Any) -> None:
        """Take in what `ReplayBuffer.add` is given; signals that are not told are 0."""
        count, told = len(rows["lanes"]), rows["signals"]
        none = {each.name: np.zeros((count, *each.shape), each.dtype) for each in self.signals if each.name not in told}
        features = rows["features"] if self._caches else {}
        self._parts.append(rows | {"signals": told | none, "features": features})
        self._turns.append((self._forgotten, count))
        self._forgotten = []

    def discard(self, lanes: np.ndarray | Sequence[int]) -> None:
        """Have the running episodes of lanes be forgotten."""
        self._forgotten += [int(lane) for lane in lanes]

    def interrupt(self, lanes: np.ndarray | Sequence[int] | None = None) -> None:
        """Only who goes on from a saved state ends episodes so, which nobody does here."""
        raise NotImplementedError("lanes whose rows go elsewhere do not go on from a saved state")

    def statistics(self) -> dict[str, float]:
        """None; the replay has them."""
        return {}

    def sealed(self, version: int, **counts: Any) -> Parcel:
        """All that was gathered since the last parcel; see there."""
        turns = [*self._turns, (self._forgotten, 0)] if self._forgotten else self._turns
        rows = joined(self._parts) if self._parts else {}
        self._parts, self._turns, self._forgotten = [], [], []
        if not rows:
            return Parcel(version, {}, {}, np.zeros(0, np.int64), turns, **counts)
        order = np.argsort(rows["lanes"], kind="stable")
        observation = rows["observation"]
        cameras = [key for key in observation if key.startswith(IMAGES)]
        coded = {key: self._coded(key, observation.pop(key)[order], rows["lanes"][order]) for key in cameras}
        return Parcel(version, rows, coded, order, turns, **counts)

    def _coded(self, key: str, frames: np.ndarray, groups: np.ndarray) -> Coded:
        """Frames of a camera, in the coding that suits the first ones of it best."""
        if key not in self._codecs:
            self._codecs[key] = choose(frames, groups)
        return encode(frames, groups, self._codecs[key])


def joined(parts: Sequence[Any]) -> Any:
    """Columns one after another: arrays, lists, and dicts of such."""
    first = parts[0]
    if isinstance(first, dict):
        return {key: joined([part[key] for part in parts]) for key in first}
    return [each for part in parts for each in part] if isinstance(first, list) else np.concatenate(parts)


def part_of(value: Any, rows: slice) -> Any:
    """Some rows of columns; see `joined`."""
    return {key: part_of(item, rows) for key, item in value.items()} if isinstance(value, dict) else value[rows]
