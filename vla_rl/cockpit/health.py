"""What is wrong with a training, in words, by what its `metrics.jsonl` tells."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Lines = Sequence[Mapping[str, Any]]
FALL, GAP = 20.0, 0.25
"""Points of success below the best validation, and share of the returns by which Q is above them, that are told."""
MANY, FEW = 0.1, 40
"""A share of invalid episodes that is told; episodes after which the lack of any success is."""


def warnings(lines: Lines) -> list[dict[str, str]]:
    """What a person should know, most pressing first: {level: bad, warn or good; text}."""
    found = (_critic(lines), _none_succeeds(lines), _fell(lines), _promises(lines), _invalid(lines), _skipped(lines))
    return [each for each in found if each]


def _last(lines: Lines, *keys: str) -> list[float] | None:
    """The newest values that were told together; None where they never were."""
    for line in reversed(lines):
        values = [line.get(key) for key in keys]
        if all(isinstance(value, int | float) for value in values):
            return [float(value) for value in values]  # type: ignore[arg-type]
    return None


def _critic(lines: Lines) -> dict[str, str]:
    told = _last(
        lines, "critic/pc_success", "critic/pc_success_without", "critic/gain", "critic/gain_low", "critic/gain_high"
    )
    if told is None:
        return {}
    by_critic, without, gain, low, high = told
    if low <= 0 <= high:
        return {}
    how, level = ("worse", "bad") if high < 0 else ("better", "good")
    numbers = f"{by_critic:.0f}% against {without:.0f}% ({gain:+.0f} points, 95% interval {low:+.0f} to {high:+.0f})"
    return {"level": level, "text": f"Acting by the critic is {how} than acting without it: {numbers}."}


def _none_succeeds(lines: Lines) -> dict[str, str]:
    told = _last(lines, "train/episodes", "train/success_rate")
    best = max((float(line.get("train/success_rate") or 0.0) for line in lines), default=0.0)
    if told is None or told[0] < FEW or best > 0:
        return {}
    text = f"None of {told[0]:.0f} episodes has succeeded: there is no reward to learn from. Take over and show it."
    return {"level": "bad", "text": text}


def _fell(lines: Lines) -> dict[str, str]:
    told = [(float(line["eval/pc_success"]), int(line["step"])) for line in lines if "eval/pc_success" in line]
    if len(told) < 2 or max(told)[0] - told[-1][0] < FALL:
        return {}
    best, step = max(told)
    text = f"Validation is at {told[-1][0]:.0f}%, and was at {best:.0f}% at step {step}."
    return {"level": "warn", "text": f"{text} An older checkpoint may be better."}


def _promises(lines: Lines) -> dict[str, str]:
    told = _last(lines, "q/mean", "q/return")
    if told is None or told[0] - told[1] < GAP * max(1.0, abs(told[1])):
        return {}
    return {"level": "warn", "text": f"The critic promises {told[0]:.2f} on average, and {told[1]:.2f} comes."}


def _invalid(lines: Lines) -> dict[str, str]:
    told = _last(lines, "train/episodes", "train/invalid_episodes")
    if told is None or told[1] < MANY * sum(told) or not told[1]:
        return {}
    text = f"{told[1]:.0f} of {sum(told):.0f} episodes were invalid, and taught nothing: the environment breaks."
    return {"level": "warn", "text": text}


def _skipped(lines: Lines) -> dict[str, str]:
    told = _last(lines, "train/skipped_steps")
    if told is None or not told[0]:
        return {}
    return {"level": "warn", "text": f"{told[0]:.0f} updates were skipped, since their gradients were not finite."}


class MetricsTail:
    """The lines of a file that another process appends to; a file that was cut is read anew."""

    def __init__(self, file: Path) -> None:
        self._file, self._at = file, 0
        self.lines: list[dict[str, Any]] = []

    def read(self) -> list[dict[str, Any]]:
        """All lines that are whole by now."""
        size = self._file.stat().st_size if self._file.is_file() else 0
        if size < self._at:
            self._at, self.lines = 0, []
        if size > self._at:
            with self._file.open("rb") as file:
                file.seek(self._at)
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._at += len(whole)
            self.lines += [line for each in whole.splitlines() if (line := _line(each)) is not None]
        return self.lines


def _line(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and isinstance(line.get("step"), int) else None
