"""What is written on screens: labels, and texts to type."""

from __future__ import annotations

from string import ascii_lowercase

import numpy as np

from sims.vocabulary import WORDS

LABELS = (
    *WORDS,
    "about", "account", "add", "album", "alarm", "apply", "basket", "browse", "camera", "cart", "chat", "clear",
    "clock", "confirm", "crop", "deals", "draft", "email", "export", "extra", "files", "filter", "finish", "folder",
    "format", "forum", "games", "gift", "guide", "history", "hotel", "image", "import", "inbox", "insert", "invite",
    "join", "large", "later", "layout", "library", "list", "maps", "market", "merge", "music", "news", "notes",
    "order", "pause", "phone", "photo", "pin", "plan", "print", "profile", "quit", "radio", "redo", "refresh",
    "rename", "reply", "report", "reset", "resize", "retry", "rotate", "scan", "share", "shop", "sort", "sound",
    "store", "sync", "table", "tasks", "theme", "tools", "train", "undo", "update", "upload", "video", "view",
    "wallet", "weather", "zoom",
)  # fmt: skip
"""What is written on buttons, in menus and lists; at most eight letters."""
ENTRIES = (
    "hello", "lima", "anna", "rome", "tiger", "apple", "blue7", "karl", "paris", "lemon", "otter", "maria", "delta",
    "oslo", "piano", "emma", "robin", "berlin", "coral", "felix", "ivory", "kyoto", "lucas", "mango", "nora", "olive",
    "peter", "quartz", "river", "sofia", "tokyo", "violet", "walter", "xenia", "yara", "zebra", "cedar", "amber",
    "dora", "ella", "ghost", "hazel", "india", "jade", "koala", "laura", "milan", "nina", "opal", "pearl",
)  # fmt: skip
"""What is to be typed."""
HELD_OUT_WORDS = frozenset(
    {
        "album", "browse", "clock", "deals", "filter", "forum", "hotel", "invite", "library", "merge", "pause",
        "quit", "rename", "scan", "sync", "wallet", "home", "mail",
        "otter", "oslo", "felix", "mango", "quartz", "tokyo", "cedar", "hazel", "nina",
    }
)  # fmt: skip
"""Words that training never names."""
OTHERS = (
    "city", "team", "pet", "code", "user", "tag", "red", "blue", "tea", "milk", "day", "night", "old", "new", "car",
    "bus", "file", "go", "page", "text", "volume", "speed", "light", "bass", "size", "heat", "depth", "tone",
    "gain", "backup", "tests", "review", "rights", "sizes", "links", "dismiss", "skip", "seat", "room", "tool",
    "colour", "basic", "small", "north", "south", "gold", "mild", "hot", "early", "late", "near", "far", "plain",
    "soft", "green", "silver", "west", "east", "short", "long",
)  # fmt: skip
"""What is written beside fields and options, and in menu bars."""
WRITTEN = tuple(dict.fromkeys((*LABELS, *OTHERS)))
"""Everything that is written on widgets."""


def divided(words: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those that training names, and those that it never does."""
    held = tuple(word for word in words if word in HELD_OUT_WORDS)
    return tuple(word for word in words if word not in HELD_OUT_WORDS), held


TRAINED_WORDS, NEW_WORDS = divided(WRITTEN)
TRAINED_ENTRIES, NEW_ENTRIES = divided(ENTRIES)
"""What a backbone is taught to find on screens, and what it never sees there."""


def pick(rng: np.random.Generator, count: int, among: tuple[str, ...] = LABELS) -> list[str]:
    """So many different ones."""
    return [among[i] for i in rng.choice(len(among), count, replace=False)]


def one_of(rng: np.random.Generator, among: tuple[str, ...]) -> str:
    """One of these, each as likely."""
    return among[int(rng.integers(len(among)))]


def letters(rng: np.random.Generator, shortest: int, longest: int, among: str = ascii_lowercase) -> str:
    """A word that nobody knows, of `shortest` to `longest` letters, each as likely."""
    size = int(rng.integers(shortest, longest + 1))
    return "".join(among[i] for i in rng.integers(len(among), size=size))


def shown(word: str) -> str:
    """A word as it is written on a button: "Save"; abbreviations of two letters in capitals."""
    return word.upper() if word == "ok" else word.capitalize()


def listed(parts: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
