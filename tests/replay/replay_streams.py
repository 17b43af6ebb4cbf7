"""Random streams of lanes, and a naive replay that keeps every episode as a list, for comparison."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vla_rl.replay import ReplayBuffer
from vla_rl.specs import IMAGES, STATE, TASK, Signal

CAMERAS = {"front": (5, 4, 3), "wrist": (2, 2, 3)}
STATE_DIM, SLOTS, CHOICES = 4, 3, 300
FEATURES: dict[str, tuple[tuple[int, ...], str]] = {"places": ((2, 2), "float16"), "confidence": ((3,), "float32")}

SIGNALS = (Signal("cost", summed=True), Signal("task", "int32"), Signal("forces", shape=(2,)))


@dataclass
class Episode:
    rows: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Naive:
    """Every row ever added, by id and by episode. piece: rows of an episode that are evicted together."""

    capacity: int
    gamma: float
    n_step: int
    stack: int
    piece: int = 1
    gone: set[int] = field(default_factory=set)
    rows: list[tuple[Episode, int]] = field(default_factory=list)
    running: dict[int, Episode] = field(default_factory=dict)

    def add(self, lane: int, row: dict[str, Any]) -> None:
        episode = self.running.setdefault(lane, Episode())
        self.rows.append((episode, len(episode.rows)))
        episode.rows.append(row | {"id": len(self.rows) - 1})
        if row["final"]:
            del self.running[lane]

    def make_room(self, count: int) -> None:
        """Evict what the next `count` rows take the place of, and the episodes of it."""
        places = range(len(self.rows) - self.capacity, len(self.rows) - self.capacity + count)
        self.evict([i for i in places if i >= 0 and self.alive(i)])

    def evict(self, ids: list[int]) -> None:
        """Forget rows, and the episodes of them from there on."""
        for i in ids:
            episode, t = self.rows[i]
            self.gone.update(row["id"] for row in episode.rows[t : t + self.piece])

    def keep(self, count: int) -> None:
        """Evict the oldest episodes until `count` rows or fewer are left."""
        alive = [i for i in range(len(self.rows)) if self.alive(i)]
        while len(alive) > count:
            self.evict(alive[:1])
            alive = [i for i in alive if self.alive(i)]

    def alive(self, i: int) -> bool:
        return i not in self.gone

    def sampleable(self, i: int) -> bool:
        episode, t = self.rows[i]
        oldest_frame = episode.rows[max(0, t - self.stack + 1)]["id"]
        return self.alive(i) and t + 1 < len(episode.rows) and self.alive(oldest_frame)

    def finished(self, i: int) -> bool:
        episode, t = self.rows[i]
        return not episode.rows[t]["final"] and any(row["terminated"] or row["truncated"] for row in episode.rows)

    def seen(self, episode: Episode, t: int) -> dict[str, Any]:
        stack = [episode.rows[max(0, t - j)]["observation"] for j in reversed(range(self.stack))]
        observation = {key: stack[-1][key] for key in (STATE, TASK)}
        for key in (IMAGES + camera for camera in CAMERAS):
            observation[key] = np.stack([seen[key] for seen in stack]) if self.stack > 1 else stack[-1][key]
        return observation

    def transition(self, i: int, n_step: int = 0) -> dict[str, Any]:
        episode, t = self.rows[i]
        last = len(episode.rows) - 1
        steps = min(n_step or self.n_step, last - t)
        taken = episode.rows[t : t + steps]
        acted = [row for row in episode.rows[t:] if not row["final"]]

        def observed(values: list[float]) -> float:
            return sum(self.gamma**j * value for j, value in enumerate(values)) if self.finished(i) else np.nan

        return {
            "observation": self.seen(episode, t),
            "next_observation": self.seen(episode, t + steps),
            "tokens": taken[0]["tokens"],
            "labels": taken[0]["labels"],
            "reward": sum(self.gamma**j * row["reward"] for j, row in enumerate(taken)),
            "discount": 0.0 if any(row["terminated"] for row in taken) else self.gamma**steps,
            "returns": observed([row["reward"] for row in acted]),
            "extra": {
                "cost": sum(self.gamma**j * row["signals"]["cost"] for j, row in enumerate(taken)),
                **{name: taken[0]["signals"][name] for name in ("task", "forces")},
            },
            "extra_returns": {"cost": observed([row["signals"]["cost"] for row in acted])},
            "features": taken[0]["features"],
            "next_features": episode.rows[t + steps]["features"],
            "demo": taken[0]["demo"],
            "weight": 1.0,
            "index": i,
            "steps": steps,
        }

    def transitions(self, ids: np.ndarray) -> list[dict[str, Any]]:
        """Those of rows that may come often, each worked out once."""
        known = {i: self.transition(i) for i in set(ids.tolist())}
        return [known[i] for i in ids.tolist()]


@dataclass
class Stream:
    """Random rows, fed to a buffer and to the naive replay alike."""

    buffer: ReplayBuffer
    naive: Naive
    rng: np.random.Generator
    ends: float = 0.2
    rests: float = 0.2
    interrupts: float = 0.03
    repeats: float = 0.3
    screens: list[np.ndarray] = field(default_factory=list)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()

    def step(self) -> None:
        lanes = np.flatnonzero(self.rng.random(self.buffer.lanes) >= self.rests)
        self.rng.shuffle(lanes)
        ended = [lane for lane in lanes if self._ended(lane)]
        labels = self.rng.integers(0, CHOICES, (len(lanes), SLOTS)) if self.rng.random() < 0.5 else None
        demo = bool(self.rng.random() < 0.3)
        rows = [self.new_row(lane in ended) for lane in lanes]
        self.naive.make_room(len(lanes))
        for i, (lane, row) in enumerate(zip(lanes, rows, strict=True)):
            row["labels"] = row["tokens"] if labels is None else labels[i]
            row["demo"] = demo
            self.naive.add(int(lane), row)
        if len(lanes):
            self.buffer.add(**batched(rows), labels=labels, demo=demo, lanes=lanes)
            # Only the buffer knows how many bytes its frames took.
            self.naive.keep(len(self.buffer))
        if self.rng.random() < self.interrupts:
            broken = np.flatnonzero(self.rng.random(self.buffer.lanes) < 0.5)
            self.buffer.interrupt(broken)
            for lane in broken:
                self.naive.running.pop(int(lane), None)

    def _ended(self, lane: int) -> bool:
        episode = self.naive.running.get(int(lane))
        return episode is not None and (episode.rows[-1]["terminated"] or episode.rows[-1]["truncated"])

    def new_row(self, final: bool) -> dict[str, Any]:
        """A random row, with everything that `add` takes but labels and demo."""
        rng = self.rng
        ends = not final and rng.random() < self.ends
        observation: dict[str, Any] = {IMAGES + name: self.new_frame(shape) for name, shape in CAMERAS.items()}
        observation[STATE] = rng.normal(size=STATE_DIM).astype(np.float32)
        observation[TASK] = f"reach the {rng.choice(['red', 'blue', 'grün', '🟥'])} thing {rng.integers(3)}"
        return {
            "observation": observation,
            "tokens": rng.integers(0, CHOICES, SLOTS),
            "reward": float(np.float32(rng.normal())),
            "terminated": bool(ends and rng.random() < 0.6),
            "truncated": bool(ends),
            "final": final,
            "features": {name: rng.normal(size=shape).astype(kind) for name, (shape, kind) in FEATURES.items()},
            "signals": {
                "cost": float(np.float32(rng.random())),
                "task": int(rng.integers(9)),
                "forces": rng.normal(size=2).astype(np.float32),
            },
        }

    def new_frame(self, shape: tuple[int, ...]) -> np.ndarray:
        """A random frame, often one that was seen before, or but for a pixel."""
        rng = self.rng
        seen = [screen for screen in self.screens if screen.shape == shape][-20:]
        if seen and rng.random() < self.repeats:
            frame = seen[rng.integers(len(seen))].copy()
            frame.flat[0] ^= np.uint8(rng.random() < 0.3)
        else:
            frame = rng.integers(0, 256, shape, np.uint8)
        self.screens = [*self.screens[-40:], frame]
        return frame


def batched(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows as the arguments of `add`."""
    first = rows[0]
    seen = [row["observation"] for row in rows]
    observation: dict[str, Any] = {key: np.stack([one[key] for one in seen]) for key in seen[0] if key != TASK}
    observation[TASK] = [one[TASK] for one in seen]
    features = {name: np.stack([row["features"][name] for row in rows]) for name in first["features"]}
    plain = {
        name: np.array([row[name] for row in rows]) for name in ("tokens", "reward", "terminated", "truncated", "final")
    }
    signals = {name: np.array([row["signals"][name] for row in rows]) for name in first["signals"]}
    return {"observation": observation, "features": features, "signals": signals, **plain}


def make_stream(
    seed: int = 0,
    lanes: int = 2,
    capacity: int = 30,
    stack: int = 1,
    n_step: int = 3,
    gamma: float = 0.9,
    limits: dict[str, Any] | None = None,
    **odds: float,
) -> Stream:
    """A buffer, its naive counterpart and a source of rows."""
    buffer = ReplayBuffer(
        capacity,
        CAMERAS,
        STATE_DIM,
        SLOTS,
        FEATURES,
        lanes=lanes,
        gamma=gamma,
        n_step=n_step,
        stack=stack,
        choices=CHOICES,
        signals=SIGNALS,
        **(limits or {}),
    )
    piece = max(capacity // (8 * lanes), 1)
    return Stream(buffer, Naive(capacity, gamma, n_step, stack, piece), np.random.default_rng(seed), **odds)


def assert_same(batch: Any, expected: list[dict[str, Any]]) -> None:
    """Every field of every row of `batch` is as expected."""
    assert len(batch) == len(expected)
    for name in expected[0]:
        _assert_field(name, getattr(batch, name), [row[name] for row in expected])


def _assert_field(name: str, got: Any, wanted: list[Any]) -> None:
    if isinstance(got, dict):
        assert set(got) == set(wanted[0]), name
        for key in got:
            _assert_field(f"{name}.{key}", got[key], [row[key] for row in wanted])
    elif isinstance(got, list):
        assert got == wanted, name
    elif got.dtype.kind == "f":
        np.testing.assert_allclose(got, np.stack(wanted), rtol=1e-5, atol=1e-5, err_msg=name)
    else:
        np.testing.assert_array_equal(got, np.stack(wanted), err_msg=name)
