"""The replay buffer: what is remembered of all lanes, and how transitions are drawn from it.

A row is one observation of one lane, and what was done there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack, get_args

import numpy as np

from vla_rl.buffer_pool import Allocate, Recycler
from vla_rl.replay import journal
from vla_rl.replay.batch import Batch
from vla_rl.replay.budget import Budget, memory_plan, plan_line
from vla_rl.replay.checks import Given, check_order, checked_lanes, checked_rows
from vla_rl.replay.columns import RETURN, SIGNAL, FeatureSpecs, column_specs, image_shapes
from vla_rl.replay.episodes import EpisodeListener, Listeners, Told
from vla_rl.replay.memory import Ground, Kept, Layout, Memory, shard_folder
from vla_rl.replay.reader import Chunks, Following, Reader, Wanted
from vla_rl.replay.ring import Ring
from vla_rl.replay.samplers import Priority, Sampler
from vla_rl.specs import IMAGES, Signal, Truncation


class ReplayBuffer:
    """Transitions of `lanes` parallel environments.

    capacity: rows kept; the oldest go first, by whole episodes.
    images: camera (name or whole key) -> [height, width, 3].
    state_dim: P, or 0 for no state. slots: tokens of a decision; each token lies in [0, choices).
    features: cached features of a row, name -> (shape, dtype). digest: names what makes them; those of another digest
    are never read. signals: what else rows hold, see there. gamma: discount of one step, (0, 1].
    n_step: steps of a sampled transition. stack: frames of a sampled observation, older ones first,
    the episode's first frame repeated before its start.
    truncation: what the return of an episode counts for that was cut short, by a limit of steps, instead of ending:
        "fail": it is complete, as if nothing could have followed. "bootstrap": `rest` tells that something would have.
        "drop": it is not known. What was saved is loaded under any of them.

    ram_bytes: limit of everything in RAM; the newest frames stay there as they are, older ones are coded without loss.
    disk_bytes: limit of the coded frames, which then lie in `folder`, a folder for them alone, instead of in RAM.
    Where a limit is passed, the oldest episodes go. Without limits all frames stay in RAM as they are.
    listeners: hear of every episode that ends, and may add to its rows or have it forgotten.
    remembered: the shape of what observations hold as `specs.REMEMBERED`; None where they hold nothing of it.
    allocate: gives the memory of batches, which is used again and again; page-locked where they go to a GPU.

    Memory is committed by the operating system as rows are first written; `plan` tells the whole.

    Raises:
        ValueError: a setting out of its range, or limits too small.
    """

    def __init__(
        self,
        capacity: int,
        images: Mapping[str, tuple[int, ...]],
        state_dim: int,
        slots: int,
        features: FeatureSpecs | None = None,
        digest: str = "",
        lanes: int = 1,
        gamma: float = 0.97,
        n_step: int = 3,
        stack: int = 1,
        choices: int = 1 << 16,
        ram_bytes: int | None = None,
        disk_bytes: int | None = None,
        folder: Path | None = None,
        allocate: Allocate = bytearray,
        truncation: Truncation = "fail",
        signals: Sequence[Signal] = (),
        listeners: Sequence[EpisodeListener] = (),
        remembered: tuple[int, ...] | None = None,
    ) -> None:
        if lanes < 1 or n_step < 1 or stack < 1 or not 0 < gamma <= 1:
            given = f"{lanes}, {n_step}, {stack}, {gamma}"
            raise ValueError(f"need lanes, n_step, stack >= 1 and gamma in (0, 1]; got {given}")
        if capacity < lanes * (stack + 1):
            least = f"at least {lanes * (stack + 1)} rows for {lanes} lane(s) and stack {stack}"
            raise ValueError(f"capacity must hold a stack and its next row of every lane: {least}, got {capacity}")
        if truncation not in (known := get_args(Truncation)):
            raise ValueError(f"truncation: expected one of {', '.join(known)}, got {truncation!r}")
        self.capacity, self.lanes, self.stack = capacity, lanes, stack
        self.gamma, self.n_step, self.choices = float(gamma), n_step, choices
        shapes = image_shapes(images)
        self.signals = tuple(signals)
        self._listeners = Listeners(listeners, self.signals)
        derived = self._listeners.columns
        specs = column_specs(shapes, state_dim, slots, choices, features or {}, self.signals, derived, remembered)
        budget = Budget.split(capacity, lanes, specs, shapes, ram_bytes, disk_bytes)
        where = shard_folder(folder, disk_bytes)
        layout = Layout(capacity, lanes, stack, self.gamma, choices, shapes, specs, budget, where, truncation)
        self._memory = Memory(layout, digest, allocate)
        self._reader = Reader(self._memory, self.signals, derived, n_step)
        self._sampler = Sampler(self._memory.ring)

    def __len__(self) -> int:
        """Rows alive, the final ones and the newest of each lane included."""
        return self._ring.count

    @property
    def added(self) -> int:
        """Rows ever added; also the id of the next one."""
        return self._ring.head

    @property
    def caches(self) -> bool:
        """Whether rows hold cached features."""
        return self._memory.caches

    @property
    def nbytes(self) -> int:
        """Bytes in RAM at full capacity, coded frames as far as there are any yet."""
        return self._memory.nbytes

    @property
    def coded_bytes(self) -> int:
        """Bytes of the frames that are coded, in RAM or on disk."""
        return self._memory.coded_bytes

    @property
    def frames(self) -> dict[str, int]:
        """How many different frames there are, by camera key."""
        return self._memory.frames

    @property
    def demonstrated(self) -> int:
        """Decisions that can be drawn and were shown (`demo`)."""
        return self._sampler.demonstrated

    @property
    def recycler(self) -> Recycler:
        """Where the arrays of batches come from."""
        return self._memory.recycler

    @property
    def _ring(self) -> Ring:
        return self._memory.ring

    def plan(self) -> dict[str, Any]:
        """What the memory goes to; see `memory_plan`."""
        kept = self._memory.layout
        return memory_plan(kept.specs, kept.images, self.capacity, kept.budget, kept.folder is not None)

    def describe(self) -> str:
        """The plan in a line for people."""
        return plan_line(self.plan(), self._memory.layout.budget, self._memory.layout.folder)

    # Adding ---------------------------------------------------------------------------------------

    def add(
        self,
        observation: Mapping[str, Any],
        tokens: np.ndarray,
        reward: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
        final: np.ndarray,
        features: Mapping[str, np.ndarray] | None = None,
        labels: np.ndarray | None = None,
        demo: bool | np.ndarray = False,
        lanes: np.ndarray | Sequence[int] | None = None,
        signals: Mapping[str, np.ndarray] | None = None,
    ) -> np.ndarray:
        """Append one row to each of L lanes (all by default): an observation, the decision, its outcome.

        observation: images uint8 [L, H, W, 3], state float32 [L, P], task L str. tokens, labels: ints
        [L, K] (labels default to tokens). reward [L]: of this decision. terminated, truncated, final:
        bool [L]. A final row is an episode's last observation: it follows the row that terminated or
        was truncated, in the same lane, and its decision and outcome are ignored. signals: by name,
        [L, ...]; those that are missing are 0.

        Returns:
            The new rows' ids, int64 [L].

        Raises:
            ValueError: a wrong key, shape, dtype, token or order of rows, NaN or infinity. Nothing is
                stored then.
        """
        lane = checked_lanes(lanes, self.lanes)
        given = Given(
            observation, tokens, reward, terminated, truncated, final, features or {}, labels, demo, signals or {}
        )
        layout = self._memory.layout
        rows, frames, texts = checked_rows(given, len(lane), layout.specs, layout.images, self.choices)
        check_order(self._ring, lane, rows["final"])
        self._sampler.forget(self._memory.forget(self._ring.due(len(lane))))
        ids, returned = self._memory.put(lane, rows, frames, texts)
        self._sampler.weigh(rows["prev"], returned)
        over = ids[rows["terminated"] | rows["truncated"]]
        self._take_in(self._listeners.tell(self._ring, over, self._memory.observations))
        while self._memory.too_much:
            self._sampler.forget(self._memory.forget(np.array([self._ring.oldest])))
        return ids

    def listen(self, listener: EpisodeListener) -> None:
        """Have a listener hear of the episodes from now on.

        Raises:
            ValueError: it has columns, for which rows have no place any more; give it to the constructor.
        """
        self._listeners.add(listener)

    def statistics(self) -> dict[str, float]:
        """What the listeners have for the log; and how many rows were lost, if any."""
        lost = {"train/lost_rows": float(self._memory.lost)} if self._memory.lost else {}
        return lost | self._listeners.statistics()

    @property
    def said(self) -> list[str]:
        """What the listeners have to say to a person."""
        return self._listeners.said

    def reconsider(self) -> None:
        """Let listeners who would tell otherwise by now hear once more of all episodes that have ended."""
        self._take_in(self._listeners.reconsider(self._ring, self.added, self._memory.observations))

    def _take_in(self, found: Iterable[Told]) -> None:
        """What listeners told of episodes; those that they tell to forget are forgotten."""
        for told in found:
            self._sampler.reweigh(told.revalued)
            # A long episode is forgotten piece by piece.
            while not told.kept and len(there := told.ids[self._ring.alive(told.ids)]):
                self._sampler.forget(self._memory.forget(there[:1]))

    def interrupt(self, lanes: np.ndarray | Sequence[int] | None = None) -> None:
        """End the running episodes of `lanes` (all by default), because their environments restarted.

        Nothing is known of what followed, so the last row of such an episode is never sampled as a transition, targets
        stop (and bootstrap) at it, and `returns` of the episode stay NaN. The next row of the lane begins a new one.
        """
        lane = checked_lanes(lanes, self.lanes)
        self._ring.interrupt(lane)

    def discard(self, lanes: np.ndarray | Sequence[int] | None = None) -> None:
        """Forget the running episodes of `lanes` (all by default), as if they had never been: the environment spoilt
        them. One that ended counts as running until its final row is there. The next row of a lane starts a new one.
        """
        lane = checked_lanes(lanes, self.lanes)
        # Long episodes are forgotten piece by piece.
        while len(begun := self._ring.begun(lane)):
            self._sampler.forget(self._memory.forget(begun))
        self._ring.interrupt(lane)

    # Sampling -------------------------------------------------------------------------------------

    def sample(
        self,
        batch_size: int,
        rng: np.random.Generator,
        *,
        by: Priority = "uniform",
        correction: float = 0.0,
        **wanted: Unpack[Wanted],
    ) -> Batch:
        """`batch_size` transitions, independently drawn among the sampleable rows, all alike or as `by` says.

        `correction`: the exponent by which `weight` makes up for priorities, 1 wholly; the largest weight of a batch
        is 1. `wanted`: of which rows, and what of them; see `Wanted`. The cost does not depend on the capacity.

        Raises:
            NothingToSampleError: no row is sampleable. ValueError: `batch_size` < 1; `one_step` without what follows.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        ids = self._sampler.draw(batch_size, rng, wanted.get("finished_only", False), by, wanted.get("since", 0))
        batch = self._reader.drawn(ids, rng, wanted)
        if by == "priority":
            batch.weight = self._sampler.corrections(ids, correction)
        return batch

    def can_sample(self, finished_only: bool = False, by: Priority = "uniform") -> bool:
        """Whether `sample` has anything to draw from."""
        return self._sampler.can_draw(finished_only, by)

    def sampleable_ids(self, finished_only: bool = False, by: Priority = "uniform") -> np.ndarray:
        """The ids of all rows that `sample` draws from, ascending; takes time in proportion to the rows."""
        return self._sampler.ids(finished_only, by)

    def prioritise(self, ids: np.ndarray, priority: np.ndarray) -> None:
        """Give rows `ids` int [B] their priorities, float [B], above 0: such as |TD error| ** 0.6. Rows that are gone
        are passed over; new ones have the highest priority so far.

        Raises:
            ValueError: a priority of 0, below it, or without bounds.
        """
        self._sampler.prioritise(ids, priority)

    def transitions(self, ids: np.ndarray, *, images: bool = True, following: Following = True) -> Batch:
        """The transitions that start at rows `ids` int64 [B]; see `sample`. Raises ValueError: a row that is not
        sampleable (evicted, final, or without a next row)."""
        return self._reader.transitions(self._checked_ids(ids), images, following)

    def chunks(self, ids: np.ndarray, length: int) -> Chunks:
        """What was done in `length` steps from rows `ids` int64 [B] on. Raises ValueError as `transitions` does."""
        return self._reader.chunks(self._checked_ids(ids), length)

    def futures(self, ids: np.ndarray, rng: np.random.Generator, horizon: int) -> tuple[np.ndarray, np.ndarray]:
        """A later row of the episode of each of rows `ids` int64 [B], uniform among the up to `horizon` next ones; and
        how many steps later, int64 [B]. Raises ValueError as `transitions` does."""
        return self._reader.futures(self._checked_ids(ids), rng, horizon)

    def returns_so_far(self, ids: np.ndarray) -> np.ndarray:
        """Discounted sums of the rewards from rows `ids` int64 [B] on, as far as they are known, float64 [B].

        Those of the whole episode where it is over. Raises ValueError as `transitions` does.
        """
        return self._ring.returns_so_far(self._checked_ids(ids))

    def episodes(self) -> Iterator[np.ndarray]:
        """The ids of the rows of each whole episode that has ended, its final row included; oldest first."""
        return self._memory.episodes()

    def recorded(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """What was done at rows `ids` int64 [B], which are alive, and what came of it; as `add` was told, by name."""
        return self._reader.recorded(ids)

    def observations(self, ids: np.ndarray, images: bool = True) -> dict[str, Any]:
        """What was seen at rows `ids` int64 [B], which are alive with their stacks; see `Batch.observation`."""
        return self._memory.observations(ids, images)

    # Checking -------------------------------------------------------------------------------------

    def _checked_ids(self, ids: np.ndarray) -> np.ndarray:
        ids = np.asarray(ids, np.int64)
        if not (good := self._ring.sampleable(ids)).all():
            raise ValueError(f"rows {ids[~good][:5].tolist()} are not transitions that replay holds")
        return ids

    # Saving ---------------------------------------------------------------------------------------

    def save(self, folder: Path, previous: Sequence[Path] = ()) -> None:
        """Write the rows that are alive, and where each lane stands, into the empty or new `folder`.

        What was saved before, and still lies in one of the folders `previous`, is linked from there: only what is
        new is written. Nothing is linked that has been altered since: rows whose frames are lost so are forgotten.
        """
        self._sampler.forget(self._memory.save(folder, previous))

    @classmethod
    def of_saved(cls, saved: Path, damaged: Collection[Path] = (), **limits: Any) -> ReplayBuffer:
        """A buffer of what `save` wrote, without cached features. damaged: see `load`.

        limits: `ram_bytes`, `disk_bytes` and `folder`, as a new buffer takes them.

        Raises:
            ValueError: see `load`; or the limits are too small.
        """
        settings = journal.read_settings(saved)
        columns = {name: (tuple(shape), kind) for name, (shape, kind) in settings["columns"].items()}
        told = {name.removeprefix(SIGNAL): spec for name, spec in columns.items() if name.startswith(SIGNAL)}
        buffer = cls(
            signals=[Signal(name, kind, shape, RETURN + name in columns) for name, (shape, kind) in told.items()],
            images={key: shape for key, (shape, _) in columns.items() if key.startswith(IMAGES)},
            state_dim=columns["state"][0][0],
            remembered=columns["remembered"][0] if "remembered" in columns else None,
            slots=columns["tokens"][0][0],
            **{name: settings[name] for name in ("capacity", "lanes", "stack", "gamma", "choices")},
            **limits,
        )
        buffer.load(saved, damaged=damaged)
        return buffer

    def load(
        self, folder: Path, ground: Ground | None = None, state: Kept | None = None, damaged: Collection[Path] = ()
    ) -> bool:
        """Replace everything by what `save` wrote; the stream then goes on as it would have. Running episodes go on
        too: call `interrupt` if the environments start anew. Returns whether cached features were made anew.

        Args:
            folder: what `save` wrote.
            ground: makes cached features, of at most `memory.GROUNDED` rows at a time, where those that were saved are
                of another digest, or none were.
            state: what `state_dict` gave then; else priorities begin anew, and listeners count what they hear.
            damaged: files of `folder` that are. The rows that they held are lost, with a warning that counts them.

        Raises:
            ValueError: a missing, truncated or altered file, or one of another buffer's settings; or cached features
                of another digest, without `ground`. Names it. The buffer is left as it was.
        """
        anew = self._memory.load(folder, ground, damaged)
        self._sampler = Sampler(self._memory.ring)
        kept = state["listeners"] if state else ()
        self._listeners.load_state_dict(kept)  # which what they tell may depend on,
        self._take_in(self._listeners.tell(self._ring, self._ring.ended(), self._memory.observations))
        self._listeners.load_state_dict(kept)  # and none of it counts twice
        if state and not damaged:
            self._sampler.load_state_dict(state["sampler"])
        return anew

    def state_dict(self) -> Kept:
        """What is not written with the rows: their priorities, and what listeners have kept."""
        return {"sampler": self._sampler.state_dict(), "listeners": self._listeners.state_dict()}

    def renew(self, ground: Ground, digest: str) -> bool:
        """Make the cached features of all rows anew, unless they are of `digest` already; returns whether it did.
        `ground` makes those of at most `memory.GROUNDED` observations at a time."""
        return self._memory.renew(ground, digest)
