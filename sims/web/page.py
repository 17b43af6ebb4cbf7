"""What an episode on a page is: where it lies, what is to be done, and when it is done."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from sims.web import chromium
from vla_rl.specs import OUTSIDE

_SCRIPT, _CLOCK = ((files("sims.web") / name).read_text("utf-8").strip() for name in ("page.js", "clock.js"))


@dataclass(frozen=True)
class Page:
    """Any page, by `url` or by `file`: what is asked, and the JavaScript expressions that say whether it is done.

    The expressions are evaluated in the page in every step. One that throws spoils the episode.

    file: the path of an HTML file. url: an address; pages of the network need `online`. root: the folder whose files
    the page may load, and its scripts and workers read (a worker of an untrusted page reads any other, too); null: it
    loads those of its own file's folder, which no script reads, and none where it has no file.
    instruction: the text, or {js: an expression that gives it}.
    success: whether it is done. proxy: what a careless grader would take for success; null for the same. reward:
    which of the two is paid. over: whether the episode is over, paid or not; null: only with the reward. score: a
    number, shown as `info["raw_reward"]`.
    setup: statements that run once when the page is there; `seed` is the episode's.
    expert: what the expert does now, an expression that gives a gesture such as {kind: "click", at: [x, y]}, or a call
    of the functions of experts.js.
    size: width and height of the page; region: the part that is observed, x, y, width and height; null for all.
    horizon: steps until truncation. seconds: how far the page's clock moves in a step. wheel: pixels of a scroll.
    new_tab: what happens where the page opens another tab, by a link, a form or `window.open`: `same`, it takes the
    place of the page; `follow`, it is shown, and the page waits behind it until it closes itself.
    online: whether the network may be used.
    """

    success: str
    instruction: str | dict[str, str]
    file: str | None = field(default=None, metadata={OUTSIDE: True})
    url: str | None = field(default=None, metadata={OUTSIDE: True})
    proxy: str | None = None
    reward: Literal["success", "proxy"] = "proxy"
    over: str | None = None
    score: str | None = None
    setup: str = field(default="", metadata={OUTSIDE: True})
    expert: str | None = None
    size: tuple[int, int] = (320, 240)
    region: tuple[int, int, int, int] | None = None
    horizon: int = 20
    seconds: float = 0.5
    wheel: float = 60.0
    new_tab: Literal["same", "follow"] = "same"
    root: str | None = field(default=None, metadata={OUTSIDE: True})
    online: bool = field(default=False, metadata={OUTSIDE: True})

    def __post_init__(self) -> None:
        if (self.file is None) == (self.url is None):
            raise ValueError("give one of `file` and `url`")
        if self.file is not None and not Path(self.file).is_file():
            raise ValueError(f"file: there is no {self.file!r}")
        if isinstance(self.instruction, Mapping) and set(self.instruction) != {"js"}:
            raise ValueError(f"instruction: a text or {{js: an expression}}, got {self.instruction!r}")
        if min(*self.size, self.horizon) < 1 or self.milliseconds < 2:
            raise ValueError("size and horizon: at least 1; seconds: at least 0.002")
        x, y, width, height = self.view
        if min(x, y) < 0 or min(width, height) < 1 or x + width > self.size[0] or y + height > self.size[1]:
            raise ValueError(f"region: {self.region} does not lie in a page of {self.size}")

    @classmethod
    def missing(cls) -> str:
        """What is not installed, in words; "" where nothing lacks."""
        return "" if any(map(shutil.which, chromium.NAMES)) else f"{chromium.NAMES[0]} is not installed"

    @property
    def page(self) -> Page:
        """The page itself."""
        return self

    @property
    def view(self) -> tuple[int, int, int, int]:
        """x, y, width and height of what is observed."""
        return self.region or (0, 0, *self.size)

    @property
    def milliseconds(self) -> int:
        """How far the page's clock moves in a step."""
        return round(1000 * self.seconds)

    @property
    def address(self) -> str:
        """The URL that is opened."""
        return self.url if self.url is not None else Path(str(self.file)).resolve().as_uri()

    @property
    def reach(self) -> Path | None:
        """The folder whose files the page may load, links followed; None for no files at all."""
        if self.root is not None:
            return Path(self.root).resolve()
        path = path_of(self.address)
        return None if path is None else path.parent

    def script(self, seed: int, start: float = 0.0, closes: bool = False) -> str:
        """What runs in the page and its frames before anything of their own.

        seed: the episode's. start: when it began on the browser's clock, see `Clock.elapsed`, in milliseconds. closes:
        whether the page may close itself.
        """
        clock = f"() => ({_CLOCK})({json.dumps({'seed': seed, 'start': start})})"
        return f"({_SCRIPT})({{clock: {clock}, read: () => ({self._reading}), closes: {json.dumps(closes)}}});"

    def worker(self, seed: int, start: float = 0.0) -> str:
        """A function of a worker's number that runs in it before anything of its own; else as `script`."""
        return f"(number) => {{ ({_CLOCK})({{...{json.dumps({'seed': seed, 'start': start})}, path: [0, number]}}); }}"

    @cached_property
    def expressions(self) -> dict[str, str]:
        """Those that are evaluated in every step, by the field that holds them."""
        known = {name: getattr(self, name) for name in ("success", "proxy", "over", "score")}
        return {name: code for name, code in known.items() if code is not None}

    @property
    def _reading(self) -> str:
        pairs = (
            f"{json.dumps(name)}: {'Number' if name == 'score' else 'Boolean'}({code}\n)"
            for name, code in self.expressions.items()
        )
        return f"{{{', '.join(pairs)}}}"


def path_of(address: str) -> Path | None:
    """The file that a `file:` address names, links followed; None for another address."""
    parts = urlsplit(address)
    return Path(unquote(parts.path)).resolve() if parts.scheme == "file" else None


def statement(code: str, **values: Any) -> str:
    """A JavaScript expression that runs statements with these values at hand."""
    return f"(({', '.join(values)}) => {{ {code}\n }})({', '.join(json.dumps(value) for value in values.values())})"
