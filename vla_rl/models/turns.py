"""What was done in an episode, told by the words of its text: where what each of them names is, and was the hand there.

One picture does not tell how far one is. What a text asks for is done word by word, and the hand was at the things that
its words name. So of each word there is kept where its thing is seen, and how surely the hand has been there: in the
last turn, lately, and ever. The hand is what `<self>` points at: a gripper's tip, or the cursor. No weights.

A pointer is asked for each word by itself, which has no end of mentions; `Pointers` has `MENTIONS` for a whole text.

Sensors may say more below a task's own words, line by line: what is written on the screen, what was noted on earlier
ones. So of each word it is also told in which lines it stands, and which words of a line are there in the order of the
task's own. What was done follows the word, wherever it stands: the lines below the first change from turn to turn.

Shapes: B rows, C cameras, W words, S slots of the pointers.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

from vla_rl.specs import words_of

SEEN = 6
"""What is told of a word's thing now: its x, y, half width, half height, confidence, and match."""
LINES = 5
"""Lines of a text that are told apart, the task's own first; what stands below them counts as of the last one."""
SAID = 1 + 3 * LINES
"""What the text tells of a word: a number that it shares with the same word elsewhere; which line it stands in; which
lines it stands in once more; and which lines it is in turn with, see `said`."""
PLACED = 3
"""What the text tells of a word's place: 1 where it does, x and y."""
EXTENT = 0.08
"""Half the width and height that a thing is taken to have whose place the text tells, in half images."""
NAMED = SEEN + SAID
FIELDS = NAMED + 4
"""What is kept of a word beside that: how surely the hand went to it in the last turn, lately, and ever; and how surely
its thing was ever seen."""
ASKED = "press {}"
"""How a pointer is asked for a word. Of the shipped backbone's it finds 92% of the buttons of GuiFlow."""
TOLD = 3
"""What `summary` tells of a camera."""
FADES = 0.6
"""What is left after a turn of what was done lately: of what was done in turn, the latest counts most."""
MARGIN = 0.06
"""How far beyond a thing's box, in half images, the hand still counts as at it."""
MATCH = 10.0
"""By how much a pointer's largest logit is divided, which tells better than its confidence whether a word is there."""


_PLACE = re.compile(r"(\d{1,3}),(\d{1,3})")
_SPELLINGS = 1 << 20
"""Numbers of words, all of which float32 tells apart."""
_REMEMBERED = 4096


@lru_cache(maxsize=_REMEMBERED)
def said(text: str, most: int) -> np.ndarray:
    """What a text tells of its first words, float32 [most, SAID], not to be changed; 0 where there is none.

    A word of the first line is in turn with another line where that one repeats it in order: both are walked through
    together, and what the other line adds is passed over. So what was entered of a number, or done of a list, tells
    which part of the first line is behind it. The words of the other line that are met are in turn with the first.
    Where the other line goes on with words of its own, these may stand for the next ones of the first ("+" for "plus"):
    as many are half in turn.
    """
    words, lines = _by_lines(text, most)
    told = np.zeros((most, SAID), np.float32)
    _, own, echoed, in_turn = np.split(told, [1, 1 + LINES, 1 + 2 * LINES], axis=1)
    for number, (word, line) in enumerate(zip(words, lines, strict=True)):
        told[number, 0] = 1 + zlib.crc32(word.encode()) % _SPELLINGS
        own[number, line] = 1
        for twin, there in enumerate(words):
            if twin != number and there == word:
                echoed[number, lines[twin]] = 1
    first = [number for number, line in enumerate(lines) if line == 0]
    for line in range(1, LINES):
        begin = other = 0
        for number in (number for number, its in enumerate(lines) if its == line):
            met = next((each for each in first[begin:] if words[each] == words[number]), None)
            if met is not None:
                in_turn[met, line] = in_turn[number, 0] = 1
                begin = other = met + 1
            elif 0 < other < len(first):
                in_turn[other, line] = 0.5
                other += 1
    told.flags.writeable = False
    return told


def _by_lines(text: str, most: int) -> tuple[list[str], list[int]]:
    """The first words of a text, in small letters, and the line of each, at most the last of LINES."""
    spans = words_of(text)[:most]
    return [text[a:b].lower() for a, b in spans], [min(text.count("\n", 0, a), LINES - 1) for a, _ in spans]


@lru_cache(maxsize=_REMEMBERED)
def placed(text: str, most: int) -> np.ndarray:
    """Where the text itself says that its first words stand, float32 [most, PLACED], not to be changed.

    "save <30,41>" says it of the word before, in percent of the picture from its left and from its top. It holds for
    the same word elsewhere in the text, unless that is said to stand somewhere else; the first such place counts.
    """
    words, lines = _by_lines(text, most)
    found: dict[str, tuple[float, float]] = {}
    own: dict[int, tuple[float, float]] = {}
    for number, (begin, end) in enumerate(words_of(text)[:most]):
        said_of = _PLACE.fullmatch(text[begin:end]) if text[begin - 1 : end + 1] == f"<{text[begin:end]}>" else None
        if said_of and number and lines[number - 1] == lines[number]:
            own[number - 1] = (float(said_of[1]) / 50 - 1, float(said_of[2]) / 50 - 1)
            found.setdefault(words[number - 1], own[number - 1])
    told = np.zeros((most, PLACED), np.float32)
    for number, word in enumerate(words):
        if word in found:
            told[number] = (1, *own.get(number, found[word]))
    told.flags.writeable = False
    return told


def told_of(texts: Sequence[str], most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What B texts tell of their words, float32 [B, most, SAID], and of their places, [B, most, PLACED]."""
    both = [(said(text, most), placed(text, most)) for text in texts]
    return torch.from_numpy(np.stack([a for a, _ in both])), torch.from_numpy(np.stack([b for _, b in both]))


def seen_or_told(seen: torch.Tensor, placed: torch.Tensor) -> torch.Tensor:
    """What pointers see of each word's thing, [B, C, W, SEEN], or, where the text says where it stands, what that
    tells: surely there, and of EXTENT. placed: float32 [B, 1, W, PLACED]; it holds for every camera."""
    known = placed[..., :1]
    told = torch.cat([placed[..., 1:], EXTENT * torch.ones_like(placed[..., 1:]), known, known], -1)
    return torch.where(known > 0, told, seen)


def same_words(now: torch.Tensor, then: torch.Tensor) -> torch.Tensor:
    """Which words are the same ones, bool [..., W, W], from what is told of them, [..., W, NAMED or more] each."""
    number, other = now[..., SEEN], then[..., SEEN]
    return (number.unsqueeze(-1) == other.unsqueeze(-2)) & (number > 0).unsqueeze(-1)


def shape(cameras: int, words: int) -> tuple[int, int, int]:
    """[C, W, FIELDS] of a row; 0 where there is no such word, and at an episode's beginning."""
    return cameras, words, FIELDS


@torch.no_grad()
def updated(before: torch.Tensor, named: torch.Tensor, hand: torch.Tensor) -> torch.Tensor:
    """What is kept after another observation, float32 [B, C, W, FIELDS].

    Args:
        before: float32 [B, C, W, FIELDS], what was kept after the observation before.
        named: float32 [B, C, W, NAMED], what is told of each word now; 0 where there is none.
        hand: float32 [B, C, 3], x, y and confidence of the hand now: where it has gone since.
    """
    place, extent, seen = before[..., 0:2], before[..., 2:4], before[..., 4]
    gap = (hand[:, :, None, :2] - place) / (extent + MARGIN)
    done = torch.exp(-0.5 * gap.square().sum(-1)) * seen * hand[..., 2:]
    _, lately, ever, shown = before[..., NAMED:].unbind(-1)
    was = torch.stack([done, torch.maximum(FADES * lately, done), torch.maximum(ever, done), shown], -2)
    same = same_words(named, before).unsqueeze(-3)  # [B, C, 1, W now, W before]
    kept = (was.unsqueeze(-2) * same).amax(-1)  # [B, C, 4, W]
    kept[..., 3, :] = torch.maximum(kept[..., 3, :], named[..., SEEN - 1])
    return torch.cat([named, kept.transpose(-1, -2)], -1)


def through(before: torch.Tensor, named: torch.Tensor, hand: torch.Tensor) -> torch.Tensor:
    """What is kept after each of T observations that follow one another, float32 [T, C, W, FIELDS].

    before: float32 [1, C, W, FIELDS]. named, hand: of the observations, in order, as `updated` takes them.
    """
    after = []
    for now in zip(named.split(1), hand.split(1), strict=True):
        before = updated(before, *now)
        after.append(before)
    return torch.cat(after)


def summary(kept: torch.Tensor) -> torch.Tensor:
    """How far one is, float32 [B, C * TOLD]: in how many words; where in the text the latest one is; and how surely."""
    done, lately, ever = kept[..., NAMED], kept[..., NAMED + 1], kept[..., NAMED + 2]
    at = torch.linspace(0, 1, kept.shape[2], device=kept.device)
    latest = (lately.square() * at).sum(-1) / lately.square().sum(-1).clamp_min(1e-3)
    return torch.stack([ever.sum(-1) / 4, latest, done.amax(-1)], -1).flatten(1)
