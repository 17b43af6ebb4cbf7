"""Whether a policy learns to be paid for what it does not do; and what is done about it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vla_rl.registry import FaultError
from vla_rl.replay import EndedEpisode, EpisodeListener
from vla_rl.rewards.gap import HackGap, share_paid
from vla_rl.specs import REWARD, VERIFIED, Signal

_KEPT = ("alarm", "audits", "quarantined", "_heard", "_again")


class GamedError(FaultError):
    """What is paid is not what is wanted, and the run is to end where that is seen."""


@dataclass
class RewardGuard(EpisodeListener):
    """Has a verifier audit a share of a run's episodes, and holds what was paid beside what was done.

    It gives an alarm once the hack gap E[paid] - E[done] of the latest audited episodes is known to be above 0 (its 95%
    interval, looked at after each audit) while episodes are not paid less than the first ones were. Demonstrations are
    not audited.

    share: of the episodes, which are audited; drawn by `seed` and by their place in replay, so that a run that goes on
        draws the same ones.
    full: what a success is paid; an episode's sum of rewards counts as a share of it, in [0, 1].
    then: what an alarm does. "warn": it is said, and logged. "quarantine": from then on, and of all that is remembered,
        every episode that was paid is audited, and what was paid for those that are not done counts as 0. "stop": the
        run ends, with a checkpoint.
    price: of an audit, in any unit; the log tells what all of them cost.
    recent, least: so many audited episodes count at most, and are needed at least; `recent` is also how many
        episodes, the first ones and the latest, tell how what is paid has changed.

    Raises:
        ValueError: a share outside (0, 1], or counts below 1.
    """

    share: float = 0.1
    full: float = 1.0
    then: Literal["warn", "quarantine", "stop"] = "warn"
    price: float = 0.0
    recent: int = 50
    least: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 < self.share <= 1.0 or self.full <= 0 or not 1 <= self.least <= self.recent:
            raise ValueError(f"share: in (0, 1]; full: above 0; 1 <= least <= recent; got {self}")
        self.alarm = ""
        self.audits = self.quarantined = 0
        self._heard, self._again = -1, False
        self._first, self._latest = list[float](), deque[float](maxlen=self.recent)
        self._audited = deque[tuple[float, bool]](maxlen=self.recent)

    @property
    def columns(self) -> tuple[Signal, ...]:
        """What rewards count for, where that may be something else than what was paid."""
        return (Signal(REWARD),) if self.then == "quarantine" else ()

    @property
    def gap(self) -> HackGap:
        """Of the latest audited episodes."""
        return HackGap.of(*zip(*self._audited, strict=True)) if self._audited else HackGap(0.0, 0.0, 0)

    def on_episode(self, episode: EndedEpisode) -> dict[str, np.ndarray]:
        """Take note of what was paid; audit it where its turn has come, or where nothing is trusted any more."""
        counted = {REWARD: episode.reward} if self.columns else {}
        if episode.demo:
            return counted
        paid, done = share_paid(episode.reward, self.full), bool(episode.signals[VERIFIED][-1])
        drawn = self._is_drawn(int(episode.ids[-1]))
        if episode.ids[-1] > self._heard:
            self._heard = int(episode.ids[-1])
            self._note(paid, done, drawn)
        # The one that gave the alarm is about to be heard of again, with all others.
        distrusted = bool(counted) and bool(self.alarm) and not self._again and paid > 0
        self.audits += distrusted and not drawn
        if distrusted and not done:
            self.quarantined += 1
            return {REWARD: np.zeros_like(episode.reward)}
        return counted

    def reconsiders(self) -> bool:
        """Once, when nothing that was paid is trusted any more."""
        again, self._again = self._again, False
        return again

    def _is_drawn(self, row: int) -> bool:
        return bool(np.random.default_rng((self.seed, row)).random() < self.share)

    def _note(self, paid: float, done: bool, drawn: bool) -> None:
        """Count an episode that was not heard of before, and give an alarm where it tells too much.

        Raises:
            GamedError: the run is to end then.
        """
        if len(self._first) < self.recent:
            self._first.append(paid)
        self._latest.append(paid)
        if not drawn:
            return
        self.audits += 1
        self._audited.append((paid, done))
        if self.alarm or len(self._audited) < self.least or self._rise < 0 or self.gap.interval[0] <= 0:
            return
        self.alarm = self._words()
        self._again = self.then == "quarantine"
        if self.then == "stop":
            raise GamedError(self.alarm)

    @property
    def _rise(self) -> float:
        """How much more the latest episodes were paid than the first ones, as a share."""
        return float(np.mean(self._latest) - np.mean(self._first))

    def _words(self) -> str:
        low, high = self.gap.interval
        first, latest = 100 * float(np.mean(self._first)), 100 * float(np.mean(self._latest))
        consequence = {
            "warn": "",
            "stop": "; the run ends here",
            "quarantine": "; from now on every episode that is paid is audited, and counts for what it did",
        }[self.then]
        return (
            f"reward guard: more is paid than is done: {self.gap.points:+.0f} points of {len(self._audited)} audited "
            f"episodes (95% interval {low:+.0f} to {high:+.0f}), while what is paid went from {first:.0f}% to "
            f"{latest:.0f}%{consequence}"
        )

    def state_dict(self) -> dict[str, Any]:
        """What it has heard and found."""
        counts = {name: getattr(self, name) for name in _KEPT}
        return counts | {"first": self._first, "latest": list(self._latest), "audited": list(self._audited)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave; a run that was to end goes on until the next audit says so."""
        vars(self).update({name: state[name] for name in _KEPT})
        self.alarm = "" if self.then == "stop" else self.alarm
        self._first = list(state["first"])
        self._latest = deque(state["latest"], self.recent)
        self._audited = deque(state["audited"], self.recent)

    @property
    def said(self) -> str:
        """The alarm, once there was one."""
        return self.alarm

    def statistics(self) -> dict[str, float]:
        """`guard/paid` of the latest episodes in percent, `guard/gap` in points and the ends of its interval, how many
        audits there were and what they cost, whether there was an alarm, and how many episodes count for less since."""
        if not self._latest:
            return {}
        low, high = self.gap.interval
        return {
            "guard/paid": 100.0 * float(np.mean(self._latest)),
            "guard/gap": self.gap.points,
            "guard/gap_low": low,
            "guard/gap_high": high,
            "guard/audits": float(self.audits),
            "guard/spent": self.price * self.audits,
            "guard/alarm": float(bool(self.alarm)),
            "guard/quarantined": float(self.quarantined),
        }
