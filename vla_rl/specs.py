"""The words that every layer shares: observation keys, sensors, action slots, seeds.

Imports nothing heavier than numpy, so that simulators, configs and `vla-rl list` stay light.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self, get_args, runtime_checkable

import numpy as np

_MARKS = r"\"'.,;:!?()\[\]{}<>"
_WORD = re.compile(rf"[^\s{_MARKS}](?:\S*[^\s{_MARKS}])?")

IMAGES = "observation.images."
"""Prefix of a camera's key; the value is uint8 [height, width, 3]."""
STATE = "observation.state"
"""Every vector sensor, concatenated in the order of the config; float32 [P]."""
REMEMBERED = "observation.remembered"
"""Where things were in the episode before, float32 [C, M, K, 3]: a policy's own note, see `models/remembered.py`."""
POINTERS = "pointers."
"""Prefix of a camera's name: where an actor's policy points in its picture, float32 [B, S, 3]."""
TASK = "task"
"""The instruction, a str."""
Truncation = Literal["bootstrap", "fail", "drop"]
"""What the observed return of an episode counts for that was cut short, by a limit of steps, instead of ending."""

LARGEST = 1e18
"""Of rewards, and of an observation's numbers that have no bounds: the square of more has no place in float32."""

Observation = Mapping[str, Any]
"""What an environment returns: `IMAGES + camera` uint8 HWC, `STATE` float32 [P], `TASK` str."""

OUTSIDE = "outside"
"""In the metadata of a component's field: its value leads out of the config, to a file, an address, a script or the
network. A checkpoint's config cannot choose it (`vla_rl.config.saved`)."""

TRAINING_SEEDS = range(500_000)
"""Seeds that demonstrations and training episodes may reset with."""
VALIDATION_SEEDS = range(500_000, 1_000_000)
"""Seeds of the episodes that a running training looks at, to draw its curve and to choose among its checkpoints."""
HELD_OUT_SEEDS = range(1_000_000, 2_000_000)
"""Seeds of evaluation episodes. Nothing trains on one, records with one, or is chosen by one."""
LANE_SEEDS = range(100_000, TRAINING_SEEDS.stop)
"""The training seeds that environments of a training begin with; recording begins at 0, so that the two stay apart."""
_STRIDE = 247_213
"""Between the first lanes of neighbouring runs: the golden section of all lane seeds, and no divisor of their number,
so that runs of any few seeds begin far from one another."""


def training_seeds(seed: int, first: int, count: int) -> list[int]:
    """The seeds that a run of `seed` begins its lanes of the numbers [first, first + count) with.

    A run numbers its lanes through all of its processes and all of its resumptions: a number is given once, so that
    no two lanes share an episode. All are `LANE_SEEDS`, whatever `seed` is; after as many lanes they begin again.
    """
    begin = (seed * _STRIDE + first) % len(LANE_SEEDS)
    return [LANE_SEEDS[(begin + lane) % len(LANE_SEEDS)] for lane in range(count)]


def check_training_seed(seed: int, episodes: int = 1, key: str = "seed") -> int:
    """Return `seed` if the seeds [seed, seed + episodes) are all training seeds.

    Raises:
        ValueError: a seed is negative, or kept for validation or evaluation; the message begins with `key`.
    """
    if seed < 0 or seed + episodes > TRAINING_SEEDS.stop:
        raise ValueError(
            f"{key}: training seeds must lie in [0, {TRAINING_SEEDS.stop}); got {seed} for {episodes} episode(s), "
            f"which at most {TRAINING_SEEDS.stop - episodes} leaves room for. "
            f"Seeds from {VALIDATION_SEEDS.start} on are kept for validation, and from {HELD_OUT_SEEDS.start} on "
            "for evaluation."
        )
    return seed


@dataclass(frozen=True)
class Mark:
    """A place in a camera's picture that a vector tells of, such as where was clicked before, and what was done there.

    at: the entry of x, which y follows, in [-1, 1], to the right and down. flags: the entries that are 1 for what was
    done there and 0 for all else; 0 throughout where there is nothing to tell. The marks of a camera have as many
    flags each, in the same order.
    """

    at: int
    flags: tuple[int, ...]
    camera: str


SensorKind = Literal["image", "vector", "text"]


@dataclass(frozen=True)
class SensorSpec:
    """What a sensor returns.

    `image`: uint8 [height, width, 3] in `shape`. `vector`: float32 of `shape` (n,), every entry in
    [low, high], in `unit`; `marks` are the places that it tells of. `text`: a str of at most `shape[0]` characters.
    """

    kind: SensorKind
    shape: tuple[int, ...]
    dtype: str
    unit: str = ""
    low: float = -np.inf
    high: float = np.inf
    marks: tuple[Mark, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in (kinds := get_args(SensorKind)):
            raise ValueError(f"kind: expected one of {', '.join(kinds)}; got {self.kind!r}")


@runtime_checkable
class Sensor(Protocol):
    """A stateless reader of one thing in a world; a frozen dataclass whose fields are its config."""

    @property
    def name(self) -> str:
        """A camera's key is `IMAGES + name`; a vector's name labels its entries of the state."""

    def spec(self, world: Any) -> SensorSpec:
        """What `read` returns in this world. Raises ValueError if the world lacks what it reads."""

    def read(self, world: Any) -> np.ndarray | str:
        """One reading, of the shape and dtype that `spec` states; it may be a view of the world's own memory."""


Rehearsed = tuple[np.ndarray, list[str]]
"""Pictures uint8 [P, H, W, 3] and P instructions."""


@runtime_checkable
class PictureSource(Protocol):
    """Pictures that a trunk is to go on reading as it did; a frozen dataclass whose fields are its config."""

    def draw(self, seed: int) -> Rehearsed:
        """Pictures and an instruction for each; the same for the same seed."""


@runtime_checkable
class Expert(Protocol):
    """What an environment, or a wrapper around one, has beside Gymnasium's methods where it can show how it is done."""

    def expert_action(self) -> Any:
        """What to do now, an action of this object's own `action_space`.

        It depends on the present state only: asked twice it says the same, and nothing moves. It is asked after each
        `reset` and `step`, also where others acted before. Raises ConfigError where there is no expert to ask, and
        ValueError where it does not know how to go on.
        """


@dataclass(frozen=True)
class Signal:
    """A column of replay beside the reward: what is told of each decision.

    name: what `info` calls it, or `Decision.extras`. dtype, shape: of one row; what was not told is 0.
    summed: whether a transition of several steps holds the discounted sum over them, as of rewards, and its return is
    worked out as the reward's is; else it holds what was told of its first step. For numbers alone.

    Raises:
        ValueError: a name or a dtype that is none, or a sum of something else than numbers.
    """

    name: str
    dtype: str = "float32"
    shape: tuple[int, ...] = ()
    summed: bool = False

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"signal: a name of letters, digits and _ is needed, got {self.name!r}")
        try:
            kind = np.dtype(self.dtype).kind
        except TypeError as error:
            raise ValueError(f"signal {self.name}: no such dtype: {self.dtype!r}") from error
        if kind not in "fiub" or (self.summed and (kind != "f" or self.shape)):
            raise ValueError(f"signal {self.name}: expected numbers (to be summed: one float), got {self}")


REWARD = "reward"
"""A column of a listener that has this name tells what rewards count for; see `replay.EpisodeListener`."""
CREDIT = Signal("credit", shape=(2,))
"""A column of a listener that tells by how much a decision was better than usual, in units of return, and how far that
is to be believed, from 0 (not at all) to 1; see `rewards.credit`."""
CONTRIBUTION = "contribution"
"""What an environment's `info` may tell: by how much the last decision changed the chance of success."""
COST, VERIFIED, EPISODE_TASK = "cost", "verified", "task"
LOG_PROB, ACTING, VALUE = "log_prob", "acting", "value"
SIGNALS = (Signal(COST, summed=True), Signal(VERIFIED, "bool"), Signal(EPISODE_TASK, "int32"))
"""What every replay keeps of an environment's steps: what they cost, whether the task is done by what the environment
itself checks, whatever it paid, and which of the run's tasks the lane is at."""
POLICY_VERSION = Signal("policy_version", "int32")
"""What replay keeps beside where copies of the policy act elsewhere: after how many updates the copy was made."""


TALLIES = ("calls", "over_calls", "under_calls", "regret", "fixed_regret")
"""What an environment's `info` may tell of its episode so far, beside what it costs: calls of tools; those that were
not worth their price; acts where a call would have been better; what was lost beside the best way, and what the best
fixed rule would lose."""


SAMPLED, GREEDY, BY_CRITIC = 1, 2, 3
"""How a decision was taken while collecting, which a row's signal `ACTING` tells; 0: not told."""
Z = 1.959963984540054
"""What a standard normal number exceeds, either way, one time in twenty: of all 95% intervals."""
MOST_CHOICES = 1 << 20
"""Of a token."""


@dataclass(frozen=True)
class Slot:
    """One token of a decision.

    `bin`: `choices` ordered values along one dimension; neighbours mean similar things.
    `choice`: unordered alternatives. `place`: a cell of a `grid` (rows, columns) laid over the image
    of `camera`, row by row from the top left; `choices` = rows * columns. `word`: one of the first `choices`
    words of the task's text, see `words_of`.
    """

    choices: int
    kind: Literal["bin", "choice", "place", "word"] = "choice"
    grid: tuple[int, int] | None = None
    camera: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.choices <= MOST_CHOICES:
            raise ValueError(f"a token has 1 to {MOST_CHOICES} choices; got {self.choices}")


def words_of(text: str) -> tuple[tuple[int, int], ...]:
    """Where each word of a text begins and ends: what stands between blanks, without the quotes and marks around it.

    Words that are nothing but marks are left out. `text[start:end]` is the word.
    """
    return tuple(match.span() for match in _WORD.finditer(text))


MOST_LETTERS = 20_000
"""Of an instruction; more than any backbone reads."""
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
"""What steers a terminal, or turns the order of letters round, and does not show."""


def readable(text: str, most: int = 2_000) -> str:
    """The text as a person may be shown it: what does not show is written out, and of a long one the middle is gone."""
    if len(text) > most:
        begin, end = most * 2 // 3, most // 3
        text = f"{text[:begin]} ...[{len(text) - begin - end} characters]... {text[-end:]}"
    return _UNSEEN.sub(
        lambda found: f"\\x{ord(found[0]):02x}" if found[0] < "\u0100" else f"\\u{ord(found[0]):04x}", text
    )


def shown(value: object, most: int = 1_000) -> str:
    """A value as an error shows it, however large it is."""
    return readable(repr(value), most)


def kept_text(text: str, name: str = "text") -> str:
    """The text in Unicode's composed form (NFC), and otherwise as it is.

    Raises:
        ValueError: half of a surrogate pair, which no file and no tokenizer takes; says `name` and where it stands. Or
            more than MOST_LETTERS.
    """
    if len(text) > MOST_LETTERS:
        raise ValueError(f"{name}: {len(text)} characters, at most {MOST_LETTERS}: {text[:60]!r}...")
    if text.isascii():
        return text
    at = next((i for i, letter in enumerate(text) if "\ud800" <= letter <= "\udfff"), None)
    if at is not None:
        raise ValueError(f"{name}: character {at} is half of a surrogate pair, {text[at]!r}, in {text[:60]!r}")
    return unicodedata.normalize("NFC", text)


@runtime_checkable
class ActionSpace(Protocol):
    """Tokens <-> actions of a Gymnasium space; a frozen dataclass whose fields are its config.

    A decision is int64 [K], one token a slot, 0 <= token < slot.choices.
    """

    def bind(self, space: Any) -> Self:
        """The same component, fitted to a Gymnasium space. Raises ValueError where it cannot fit."""

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The K slots of a bound action space."""

    def mask(self, prefix: np.ndarray) -> np.ndarray | None:
        """Which tokens may follow `prefix` int64 [B, k], k < K: bool [B, slots[k].choices].

        None means that all may.
        """

    def decode(self, tokens: np.ndarray) -> Any:
        """The environment action of int64 [K]. Raises ValueError for a token out of range."""

    def encode(self, action: Any) -> np.ndarray:
        """The tokens int64 [K] of the decision nearest to an environment action."""
