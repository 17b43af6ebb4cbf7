"""Instructions on a picture, and what they mean in it; `questions` asks about it."""

from __future__ import annotations

from dataclasses import dataclass
from string import ascii_lowercase, digits

import numpy as np

from sims.grounding.phrases import RELATIONS, Phrase, absent, name, nameable, one_of, unlit, written
from sims.grounding.picture import Picture
from sims.gui.words import TRAINED_ENTRIES, letters
from sims.vocabulary import MARKS
from vla_rl.specs import words_of

ABSENT = -1
"""The mention of a thing that the picture does not show."""
ABSENCES, UNLIT_ABSENCES = 0.12, 0.4
"""How often an instruction mentions a thing that is not there; and where a button's lamp is out, which may be the one
that is meant, but cannot be told by its colour."""
TYPED, TYPED_INTO = 0.25, 0.6
"""How often an instruction on a screen says what to type; and where there are fields."""
BARE_WORDS = 0.7
"""How often a text that fills a form in mentions a thing by nothing but its word."""
MOSTLY_FEW, MORE_IN_FORMS = (0.42, 0.42, 0.1, 0.06), (0.3, 0.35, 0.2, 0.15)
"""How often a text mentions one, two, three and four things."""

_ONE = (
    "reach {0}", "reach for {0}", "touch {0}", "go to {0}", "move to {0}", "move the gripper to {0}",
    "put the gripper on {0}", "bring the arm to {0}", "point to {0}", "point at {0}", "find {0}", "show me {0}",
    "where is {0}?", "look at {0}", "get to {0}", "approach {0}", "tap {0}", "hover over {0}", "grasp {0}",
    "grab {0}", "pick up {0}", "pick {0}", "lift {0}", "take {0}", "press {0}", "hold {0}", "{0}",
    "push {0}", "push {0} away", "push {0} to the left", "slide {0} to the right", "knock over {0}",
    "open {0}", "pull {0} open", "pull out {0}", "raise {0}", "hit {0}",
)  # fmt: skip
_VERBS_TWO = ("push", "put", "slide", "move", "place", "drag", "bring", "take", "shove", "carry", "get", "set")
_ONTO = ("to", "onto", "on", "into", "in", "towards", "next to", "on top of", "over to", "beside")
_TWO = (
    "pick up {0} and put it on {1}", "pick {0} and place it in {1}", "take {0} and drop it onto {1}",
    "grab {0} and move it to {1}", "point to {0} and {1}", "touch {0} then {1}", "reach {0}, then {1}",
    "stack {0} on {1}", "find {0} and {1}", "{0} to {1}", "use {0} to push {1}", "go from {0} to {1}",
    "insert {0} into {1}", "plug {0} into {1}", "fit {0} in {1}", "put {0} inside {1}", "open {0} and put {1} inside",
    "open {0}, put {1} into it",
)  # fmt: skip
_MANY = ("point to {0}", "touch {0}", "find {0}", "show me {0}", "where are {0}?", "point at {0}", "reach {0}")
_IN_ORDER = ("press {0}", "push {0}", "hit {0}", "touch {0}", "reach {0}", "point to {0}")
_LINKS_IN_ORDER = (", then ", " and then ", ", next ")
_THREE = (
    "open {0}, put {1} into it and press {2}", "open {0}, place {1} inside, then push {2}",
    "pull {0} open, drop {1} in, then press {2}", "put {0} on {1}, then {2}",
)  # fmt: skip
_CLICK = (
    "click {0}", "click on {0}", "press {0}", "tap {0}", "point to {0}", "select {0}", "find {0}", "choose {0}",
    "where is {0}?", "go to {0}", "move to {0}", "move the cursor to {0}", "hover over {0}", "open {0}", "tick {0}",
    "check {0}", "pick {0}", "focus {0}", "double click {0}", "hit {0}", "set {0}", "scroll to {0}", "drag {0}",
    "{0}", "close {0}", "scroll down and click {0}",
)  # fmt: skip
_CLICK_TWO = (
    "drag {0} to {1}", "click {0} then {1}", "drag {0} onto {1}", "move {0} to {1}", "point to {0} and {1}",
    "click {0} and press {1}", "select {0}, then click {1}", "tick {0} and {1}", "check {0} and {1}, then press ok",
    "open {0} and click {1}", "choose {0} from {1}", "go to {0}, then {1}", "in {0} select {1}", "{0} and {1}",
    "choose {0} and press {1}", "pick {0}, then press {1}", "dismiss {0} and click {1}", "in {0} choose {1}",
)  # fmt: skip
_CLICK_MANY = (
    "tick {0}", "check {0}", "click {0}", "select {0}", "press {0}", "choose {0}", "go to {0}", "open {0}", "find {0}",
    "tick {0}, then press ok",
)  # fmt: skip
_LINKS = (", then ", " and then ", ", next ", ", ", " and ")
_TYPE_ONE = (
    "type {t} into {0}", "enter {t} into {0}", "write {t} in {0}", "put {t} into {0}", "set {0} to {t}",
    "fill in {t} into {0}", "{0} is {t}", "change {0} to {t}", "type {t} in {0}", "{0} {t}", "enter {0} {t}",
    "search for {t} in {0}",
)  # fmt: skip
_SET_AT = (
    "set {0} to {n}", "put {0} at {n}", "move {0} to {n}", "drag {0} to {n}", "slide {0} to {n}", "turn {0} to {n}",
    "{0} at {n}",
)  # fmt: skip
_TYPE_ONLY = ("type {t}", "write {t}", "enter {t}", "fill in {t}", "search for {t}", "put in {t}")
_ENDS = (
    " and press {0}", ", then click {0}", " and click {0}", ", then press {0}", " and hit {0}", ", then {0}",
    ", press {0}", ", choose {0}", ", pick {0}", ", select {0}", " then {0}",
)  # fmt: skip
_TAILS = {
    "table": ("", "", "", "", "", "", "", " please", ".", " now", " with the gripper", " carefully"),
    "screen": ("", "", "", "", "", "", "", " please", ".", " now", " with the mouse", " once"),
}
_OPEN, _CLOSE = "\x02", "\x03"
"""Around what is to be typed, while a text is put together."""


@dataclass(frozen=True)
class Typed:
    """Words `first` to `last` of a text (as `specs.words_of` counts) are to be typed into its mention number `mention`.

    `mention` is the number of mentions where the text does not say into what.
    """

    first: int
    last: int
    mention: int


@dataclass(frozen=True)
class Sample:
    """A text, and what it means in its picture.

    `mentions`: for each thing mentioned, in order, its index or ABSENT. `phrases`: the words that mention it.
    `answer`: the text of the answer, empty for a mere instruction. `referent`: the place [2] that the answer is
    about, or None. `typed`: what the text says to type.
    """

    text: str
    mentions: tuple[int, ...]
    phrases: tuple[Phrase, ...]
    task: str = "point"
    answer: str = ""
    referent: tuple[float, float] | None = None
    typed: tuple[Typed, ...] = ()


def instruct(
    picture: Picture,
    rng: np.random.Generator,
    words: tuple[str, ...] = (),
    focus: int | None = None,
    relations: float = RELATIONS,
    forms: float = 0.0,
) -> Sample | None:
    """An instruction that mentions one to four things (`focus` among them); None if nothing can be named.

    `words`: what could be written on a thing that is not there. `relations`: how often a thing of a screen is mentioned
    by another one that it stands beside. `forms`: how often a text on a screen with several fields fills them in, and
    one on a screen with sliders says where one of them has to stand.
    """
    choices = nameable(picture)
    if not choices or (focus is not None and focus not in choices):
        return None
    if forms and focus is None and rng.random() < forms:
        picked = _form(picture, choices, rng)
        if picked:
            return _told(picture, picked, [_by_its_word(picture, i, rng, relations) for i in picked], True, rng)
        sliders = [i for i in choices if picture.things[i].shape == "slider"]
        if sliders:
            return _set_at(picture, one_of(sliders, rng), rng, relations)
    fields = any(picture.things[i].shape == "field" for i in choices)
    typing = picture.kind == "screen" and rng.random() < (TYPED_INTO if fields else TYPED)
    count = min(int(rng.choice([1, 2, 3, 4], p=MORE_IN_FORMS if typing else MOSTLY_FEW)), len(choices))
    picked = [choices[i] for i in rng.permutation(len(choices))[:count]]
    if focus is not None and focus not in picked:
        picked[0] = focus
    if count == 2 and picture.kind == "table" and rng.random() < 0.6:
        picked.sort(
            key=lambda i: picture.things[i].shape in (*MARKS, "tray", "plate", "socket", "drawer")
        )  # things go onto marks
    if typing and focus is None:
        picked = _fields_first(picture, picked, choices, rng)
    phrases = [name(picture, i, rng, relations) for i in picked]
    if focus is None and rng.random() < (UNLIT_ABSENCES if unlit(picture) else ABSENCES):
        lost = int(rng.integers(count))
        picked[lost], phrases[lost] = ABSENT, absent(picture, rng, words)
    return _told(picture, picked, phrases, typing, rng)


def _form(picture: Picture, choices: list[int], rng: np.random.Generator) -> list[int]:
    """Two or three fields, and then one or two things to choose or press; nothing where there are not so many."""
    fields = [i for i in choices if picture.things[i].shape == "field"]
    others = [i for i in choices if picture.things[i].shape not in ("field", "label", "window")]
    if len(fields) < 2 or not others:
        return []
    fields = [fields[i] for i in rng.permutation(len(fields))[: 3 if rng.random() < 0.2 else 2]]
    others = [others[i] for i in rng.permutation(len(others))[: 4 - len(fields)]]
    return fields + sorted(others, key=lambda i: picture.things[i].shape == "button")


def _set_at(picture: Picture, index: int, rng: np.random.Generator, relations: float) -> Sample:
    """Where a slider has to stand."""
    phrase = _by_its_word(picture, index, rng, relations)
    text = one_of(_SET_AT, rng).format(phrase.text, n=rng.integers(101)) + one_of(_TAILS["screen"], rng)
    return Sample(text, (index,), (phrase,))


def _by_its_word(picture: Picture, index: int, rng: np.random.Generator, relations: float) -> Phrase:
    """A phrase for one thing, mostly nothing but what is written on it or beside it."""
    words = written(picture, index)
    return words[0] if words and rng.random() < BARE_WORDS else name(picture, index, rng, relations)


def _told(picture: Picture, picked: list[int], phrases: list[Phrase], typing: bool, rng: np.random.Generator) -> Sample:
    """The instruction that mentions these things by these phrases."""
    text, into = _put_together(picture, picked, [phrase.text for phrase in phrases], typing, rng)
    text, typed = _without_marks(text, into)
    return Sample(text, tuple(picked), tuple(phrases), typed=typed)


def _fields_first(picture: Picture, picked: list[int], choices: list[int], rng: np.random.Generator) -> list[int]:
    """The same things, many of them replaced by fields, which mostly come first."""
    fields = [i for i in choices if picture.things[i].shape == "field" and i not in picked]
    for slot in range(len(picked)):
        if fields and rng.random() < 0.6:
            picked[slot] = fields.pop(int(rng.integers(len(fields))))
    return sorted(picked, key=lambda i: picture.things[i].shape != "field") if rng.random() < 0.8 else picked


def _put_together(
    picture: Picture, picked: list[int], phrases: list[str], typing: bool, rng: np.random.Generator
) -> tuple[str, list[int]]:
    """The text, marks around what is to be typed, and into which mention each of those goes."""
    into: list[int] = []
    if picture.kind == "table":
        text = _on_table(phrases, rng)
    elif typing:
        fields = [i != ABSENT and picture.things[i].shape == "field" for i in picked]
        text, into = _typing(phrases, fields, rng)
    else:
        text = _on_screen(phrases, rng)
    text += one_of(_TAILS[picture.kind], rng) if not text.endswith("?") else ""
    return (text[0].upper() + text[1:] if rng.random() < 0.15 else text), into


def _on_table(phrases: list[str], rng: np.random.Generator) -> str:
    if len(phrases) == 1:
        return one_of(_ONE, rng).format(*phrases)
    if len(phrases) == 2 and rng.random() < 0.6:
        return f"{one_of(_VERBS_TWO, rng)} {phrases[0]} {one_of(_ONTO, rng)} {phrases[1]}"
    if len(phrases) == 2:
        return one_of(_TWO, rng).format(*phrases)
    if len(phrases) == 3 and rng.random() < 0.3:
        return one_of(_THREE, rng).format(*phrases)
    if rng.random() < 0.5:
        return one_of(_IN_ORDER, rng).format(one_of(_LINKS_IN_ORDER, rng).join(phrases))
    return one_of(_MANY, rng).format(", ".join(phrases[:-1]) + " and " + phrases[-1])


def _on_screen(phrases: list[str], rng: np.random.Generator) -> str:
    if len(phrases) == 1:
        return one_of(_CLICK, rng).format(*phrases)
    if len(phrases) == 2:
        return one_of(_CLICK_TWO, rng).format(*phrases)
    if rng.random() < 0.5:
        return one_of(_CLICK_MANY, rng).format(one_of(_LINKS, rng).join(phrases))
    return one_of(_CLICK_MANY, rng).format(", ".join(phrases[:-1]) + " and " + phrases[-1])


def _typing(phrases: list[str], fields: list[bool], rng: np.random.Generator) -> tuple[str, list[int]]:
    """An instruction that says what to type into the fields, and what to do with the other things."""
    text, into = "", list[int]()
    if not fields[0]:
        text, into = one_of(_TYPE_ONLY, rng).format(t=_entry(rng)), [len(phrases)]
    link = one_of((", ", " and ", ", then "), rng)
    for i, (phrase, is_field) in enumerate(zip(phrases, fields, strict=True)):
        if is_field:
            text += (link if text else "") + one_of(_TYPE_ONE, rng).format(phrase, t=_entry(rng))
            into.append(i)
        else:
            text += one_of(_ENDS, rng).format(phrase)
    return text, into


def _entry(rng: np.random.Generator) -> str:
    """What is to be typed, marks around it, often in quotes."""
    made = []
    for _ in range(1 if rng.random() < 0.8 else 2):
        own = letters(rng, 2, 8, ascii_lowercase if rng.random() < 0.8 else digits)
        made.append(one_of(TRAINED_ENTRIES, rng) if rng.random() < 0.6 else own)
    quote = one_of(("", "", "'", '"'), rng)
    return f"{quote}{_OPEN}{' '.join(made)}{_CLOSE}{quote}"


def _without_marks(text: str, into: list[int]) -> tuple[str, tuple[Typed, ...]]:
    """The text without marks, and the words that were between them."""
    spans, plain = list[tuple[int, int]](), ""
    for piece in text.split(_OPEN):
        inside, _, rest = piece.rpartition(_CLOSE)
        if inside:
            spans.append((len(plain), len(plain) + len(inside)))
        plain += inside + rest
    words = words_of(plain)
    typed = []
    for (start, end), mention in zip(spans, into, strict=True):
        own = [i for i, (a, b) in enumerate(words) if a >= start and b <= end]
        typed.append(Typed(own[0], own[-1], mention))
    return plain, tuple(typed)
