"""Do what a page of documentation says, block by block, as a reader would in an empty folder; with fewer steps.

Usage: docs_driver.py PAGE
"""

from __future__ import annotations

import re
import shlex
import sys
import time
from pathlib import Path

FEWER = {
    "demos": ["demos.episodes=2"],
    "sft": ["sft.steps=2"],
    "train": [
        "train.steps=48",
        "train.num_envs=4",
        "train.learning_starts=16",
        "train.eval_every=0",
        "train.log_every=16",
        "algorithm.warmup_updates=2",
        "algorithm.batch_size=16",
        "algorithm.actor_batch_size=8",
        "train.workers=0",
        "device=cpu",
    ],
    "eval": ["eval.episodes=2", "eval.num_envs=2", "eval.videos=1", "eval.workers=0", "device=cpu"],
}
"""What makes each command brief."""
NAMED = re.compile(r"(?:#|<!--) ([\w/]+\.(?:py|html|yaml))( -->)?\n")
"""The first line of a block that is a file."""


def blocks(page: Path) -> list[tuple[str, str]]:
    """Every fenced block of a page: its language and its text."""
    return re.findall(r"^```(\w+)\n(.*?)^```", page.read_text("utf-8"), re.S | re.M)


def runnable(page: Path) -> list[tuple[str, str]]:
    """The blocks that a reader runs: commands and scripts."""
    return [(kind, text) for kind, text in blocks(page) if kind in ("bash", "python") and not NAMED.match(text)]


def main(page: Path) -> None:
    """Do it in the working folder, in this process."""
    from vla_rl import cli

    sys.path.insert(0, str(Path.cwd()))
    for kind, text in blocks(page):
        begun = time.monotonic()
        if named := NAMED.match(text):
            Path(named[1]).parent.mkdir(exist_ok=True)
            Path(named[1]).write_text(text, "utf-8")
        elif kind == "python":
            exec(compile(text, f"{page.name}: {text[:60]!r}", "exec"), {"__name__": "__main__"})
        elif kind == "bash":
            for line in text.splitlines():
                words = shlex.split(line, comments=True)
                if words:
                    assert words[0] == "vla-rl", line
                    code = cli.main([*words[1:], *fewer(words[1:])])
                    assert code == 0 or words[1] == "audit", f"{line}\nexit code {code}"
                    assert code < cli.USER_ERROR, line
        print(f"{time.monotonic() - begun:.1f} s: {text[:60]!r}", flush=True)


def fewer(words: list[str]) -> list[str]:
    """What to add to a command, but for the keys that it sets itself, in which a page is brief as it is."""
    own = {word.partition("=")[0] for word in words}
    return [each for each in FEWER.get(words[0], []) if each.partition("=")[0] not in own]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
