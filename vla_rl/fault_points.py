"""Places where a test has a run fail, such as in the middle of a save; inert unless an environment variable names them.

    VLA_RL_FAULTS=checkpoint.manifest:kill@2,log.write:full@3+

has the process end itself as it comes to the manifest of its second checkpoint, and finds the disk full at the third
line of its log and at every one after it. The variable is read once, as this module is imported.
"""

from __future__ import annotations

import difflib
import errno
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

VARIABLE = "VLA_RL_FAULTS"
POINTS = (
    "checkpoint.begin",
    "checkpoint.manifest",
    "checkpoint.rename",
    "checkpoint.last",
    "checkpoint.prune",
    "replay.write",
    "log.write",
    "video.write",
)
"""Each is named where it lies; those of a checkpoint in the order in which a save comes to them."""


def _full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _broken() -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


FAULTS: Mapping[str, Callable[[], object]] = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "hang": lambda: threading.Event().wait(),
    "full": _full,
    "broken": _broken,
}
"""What can happen: the process is ended, is stopped, or waits for ever; the disk is full, or fails."""
_RULE = re.compile(r"(?P<point>[\w.]+):(?P<fault>\w+)(@(?P<first>\d+)(?P<on>\+?))?")


@dataclass(frozen=True)
class Rule:
    """What happens the `first` time that a process comes to a point, and, where it goes `on`, every time after it."""

    fault: str
    first: int = 1
    on: bool = False

    def due(self, times: int) -> bool:
        """Whether it happens now, at so manieth a time."""
        return times >= self.first if self.on else times == self.first


def parse(text: str) -> dict[str, Rule]:
    """The rules that the variable tells, by point.

    Raises:
        ValueError: no rule, or a point or a fault that there is not; names the nearest one.
    """
    rules = {}
    for part in filter(None, text.split(",")):
        told = _RULE.fullmatch(part)
        if told is None:
            raise ValueError(f"{VARIABLE}: expected such as checkpoint.manifest:kill@2, got {part!r}")
        for name, known in ((told["point"], POINTS), (told["fault"], FAULTS)):
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
                raise ValueError(f"{VARIABLE}: no {name!r} is known; did you mean {close[0]!r}?")
        rules[told["point"]] = Rule(told["fault"], int(told["first"] or 1), bool(told["on"]))
    return rules


_rules = parse(os.environ.get(VARIABLE, ""))
_times = Counter[str]()


def come_to(point: str) -> None:
    """Have happen what is to happen here, if anything."""
    rule = _rules.get(point)
    if rule is not None:
        _times[point] += 1
        if rule.due(_times[point]):
            FAULTS[rule.fault]()
