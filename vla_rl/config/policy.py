"""A policy's config: which backbone, what its head reads, what trains. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

HEADS = ("parallel", "autoregressive")
READS = ("pointers", "words", "clauses", "tokens")
MOST_STACK, MOST_VIEWS, MOST_WIDTH, MOST_DEPTH, MOST_TOKENS = 64, 64, 1 << 20, 64, 1 << 13
"""Frames of a stack, cameras, numbers of a layer or a state, layers, and tokens or words: beyond any that is of use."""
Trainable = Literal["head", "lora", "all"]
ALL_LINEAR: Literal["all-linear"] = "all-linear"
Remembers = bool | Literal["turns"]


@dataclass(frozen=True)
class HeadSettings:
    """The action-token head.

    type: "parallel" (all tokens of a decision at once, by K learned queries), or "autoregressive" (one after another,
        by the backbone's language model, in tokens of its vocabulary; see `models/autoregressive.py`).
    decoder: which language model speaks, if "autoregressive": the "backbone" itself, or a "copy" of its layers that
        trains, beside a backbone that stays as it is.
    reads: "pointers" (places, confidences, their differences), and optionally what the head attends to: the "words" of
        the text, what it says in each of its "clauses", with the numbers stated there (the critic reads these, too), or
        the whole token sequence of images and text ("tokens").
        What an autoregressive head attends to: the slots of the pointers, or with "tokens" the whole sequence.
    width, depth: of its MLP. dropout: used only during the supervised start.
    text_tokens: maximum tokens of an instruction, if it reads "tokens". words: maximum words, if it reads "words".
    clauses: maximum clauses, if it reads "clauses".
    advantage: whether it is conditioned on a decision being good or not, see `Policy.condition`; set by the algorithms
        that need it.
    """

    reads: tuple[str, ...] = ("pointers",)
    width: int = 256
    depth: int = 2
    dropout: float = 0.0
    text_tokens: int = 128
    words: int = 24
    clauses: int = 16
    advantage: bool = False
    type: Literal["parallel", "autoregressive"] = "parallel"
    decoder: Literal["backbone", "copy"] = "backbone"

    def __post_init__(self) -> None:
        if self.type not in HEADS:
            raise ValueError(f"type must be {' or '.join(HEADS)}; got {self.type!r}")
        if self.decoder not in ("backbone", "copy"):
            raise ValueError(f"decoder must be backbone or copy; got {self.decoder!r}")
        if self.decoder == "copy" and self.type == "parallel":
            raise ValueError("decoder=copy: a head of type=parallel has no decoder; take type=autoregressive")
        strange = [each for each in self.reads if each in ("words", "clauses")]
        if self.type == "autoregressive" and strange:
            raise ValueError(
                f"reads: a head of type=autoregressive reads pointers, and may read tokens, but not "
                f"{' and '.join(strange)}, which its decoder has seen; got {list(self.reads)}"
            )
        if "pointers" not in self.reads or set(self.reads) - set(READS):
            raise ValueError(f"reads must be pointers, and may be {' and '.join(READS[1:])}; got {list(self.reads)}")
        if self.width < 8 or self.width % 8 or min(self.depth, self.text_tokens, self.words, self.clauses) < 1:
            raise ValueError(
                "width must be a positive multiple of 8, depth, text_tokens, words and clauses at least 1; "
                f"got {self.width}, {self.depth}, {self.text_tokens}, {self.words}, {self.clauses}"
            )
        texts = (self.text_tokens, self.words, self.clauses)
        if self.width > MOST_WIDTH or self.depth > MOST_DEPTH or max(texts) > MOST_TOKENS:
            raise ValueError(
                f"width: at most {MOST_WIDTH}, depth: {MOST_DEPTH}, text_tokens, words and clauses: {MOST_TOKENS}; got "
                f"{self.width}, {self.depth}, {', '.join(map(str, texts))}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1); got {self.dropout}")


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adapters in the backbone, used if `train` is "lora".

    modules: names of the linear layers that get an adapter, or "all-linear", as in peft.
    parts: whose: the "language" model's, and the "vision" tower's with what leads from it to the language model. What
        sees is mostly left as it is where models are fine-tuned.
    slot_tokens: whether the rows of `<ptr>` and `<self>` train too, which no model comes with.
    """

    rank: int = 16
    alpha: int = 32
    modules: tuple[str, ...] | Literal["all-linear"] = ALL_LINEAR
    parts: tuple[Literal["language", "vision"], ...] = ("language",)
    slot_tokens: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= MOST_WIDTH or self.alpha <= 0 or not self.modules or not self.parts:
            raise ValueError(f"rank and alpha must be positive, modules and parts given; got {self}")

    def takes(self, name: str) -> bool:
        """Whether linear layers of that name get an adapter."""
        return self.modules == ALL_LINEAR or name in self.modules


BEFORE_PARTS = {
    "modules": ["q_proj", "k_proj", "v_proj", "o_proj", "out_proj", "qkv"],
    "parts": ["language", "vision"],
    "slot_tokens": False,
}
"""The defaults of LoraSettings before `parts` was one of them."""


@dataclass(frozen=True)
class PolicySettings:
    """A policy: a backbone, a head, and what trains.

    backbone: a component of the group `backbones`; it needs `load() -> Backbone`.
    train: "head" (the trunk stays frozen and its features are cached), "lora" or "all".
    stack: number of successive frames of each camera, the newest last.
    views: "apart" (the backbone reads each view separately, beside the instruction, as the tiny one was trained) or
        "together" (all in one sequence, for backbones that were trained on several images).
    remembers: True: pointers are corrected by what was seen before in the episode (`models/remembered.py`). "turns":
        the head is told what was done before, by the words of the text (`models/turns.py`).
    """

    backbone: Any
    head: HeadSettings = field(default_factory=HeadSettings)
    train: Trainable = "head"
    lora: LoraSettings = field(default_factory=LoraSettings)
    stack: int = 1
    views: Literal["apart", "together"] = "apart"
    remembers: Remembers = False

    def __post_init__(self) -> None:
        if self.views not in ("apart", "together"):
            raise ValueError(f"views must be 'apart' or 'together'; got {self.views!r}")
        if self.remembers not in (False, True, "turns"):
            raise ValueError(f"remembers must be false, true or turns; got {self.remembers!r}")
        if self.remembers == "turns" and self.head.type != "parallel":
            raise ValueError("remembers=turns: only a head of policy.head.type=parallel is told what was done")
        if self.train not in ("head", "lora", "all"):
            raise ValueError(f"train must be 'head', 'lora' or 'all'; got {self.train!r}")
        if not 1 <= self.stack <= MOST_STACK:
            raise ValueError(f"stack must lie in [1, {MOST_STACK}]; got {self.stack}")
