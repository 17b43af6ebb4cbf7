"""Faults at named places: what a process does there by its environment, and nothing without it."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vla_rl import fault_points
from vla_rl.fault_points import FAULTS, POINTS, VARIABLE, Rule, come_to, parse

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("", {}),
        ("log.write:full", {"log.write": Rule("full")}),
        ("log.write:full@3+", {"log.write": Rule("full", 3, on=True)}),
        (
            "checkpoint.begin:kill@2,replay.write:broken@9",
            {"checkpoint.begin": Rule("kill", 2), "replay.write": Rule("broken", 9)},
        ),
    ],
)
def test_the_variable_tells_what_happens_where(text: str, rules: dict[str, Rule]) -> None:
    assert parse(text) == rules


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("log.wrote:full", "did you mean 'log.write'"),
        ("log.write:ful", "did you mean 'full'"),
        ("log.write", "expected such as checkpoint.manifest:kill@2, got 'log.write'"),
    ],
)
def test_a_rule_that_is_none_is_named(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse(text)


def test_it_happens_the_time_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fault_points, "_rules", parse("log.write:full@2,video.write:broken@2+"))
    monkeypatch.setattr(fault_points, "_times", fault_points.Counter())

    def happens(point: str) -> int | None:
        try:
            come_to(point)
        except OSError as error:
            return error.errno
        return None

    assert [happens("log.write") for _ in range(3)] == [None, errno.ENOSPC, None]
    assert [happens("video.write") for _ in range(3)] == [None, errno.EIO, errno.EIO]


def test_without_the_variable_nothing_happens() -> None:
    assert not fault_points._rules, "tests run without"
    for point in POINTS:
        come_to(point)


def test_a_process_ends_at_the_point_that_its_environment_names() -> None:
    code = (
        "from vla_rl import fault_points as f; f.come_to('log.write'); print('1', flush=True); f.come_to('log.write')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], env={VARIABLE: "log.write:kill@2"}, cwd=ROOT, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout) == (-9, "1\n")


def test_every_point_lies_somewhere() -> None:
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "vla_rl").rglob("*.py"))
    assert sorted(re.findall(r'fault_points\.come_to\("([\w.]+)"\)', source)) == sorted(POINTS)
    assert set(FAULTS) == {"kill", "stop", "hang", "full", "broken"}
