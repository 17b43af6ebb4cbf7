"""Who hears of every episode, and says that the world has shifted."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from vla_rl.adaptation.fall import Fall
from vla_rl.adaptation.on_shift import CRITIC, SUCCESS, Adaptation
from vla_rl.replay import EndedEpisode, EpisodeListener
from vla_rl.specs import VALUE

FORMER, LATEST, BACK = 100, 50, 0.9
"""Success is back once the latest so many episodes have this share of what so many had before the shift."""
REMEMBERED = 2000
"""Episodes of which it is known where they began, and how they went; at least as many as a test looks back at."""
_COUNTS = ("episodes", "decisions", "alarms", "shifts", "since")
_KEPT = (*_COUNTS, "_begun", "_former", "_down", "_back_after", "_heeded", "_newest", "_words")


class Watch(EpisodeListener):
    """Watches success, and what comes of the critic's promises; episodes in which somebody showed how do not count.

    settings: whose tests are asked. gamma: of returns. value_range: of the critic. complete: whether the return of an
    episode that was cut short is the whole; else nothing is made of its promise. processes: of the run.

    Attributes:
        alarms: how many this one gave. shifts: how many are known of, those that other processes found among them.
        decisions: of the episodes so far. since: the first row of replay of after the last shift.
    """

    def __init__(
        self,
        settings: Adaptation,
        gamma: float,
        value_range: tuple[float, float] = (0.0, 1.0),
        complete: bool = True,
        processes: int = 1,
    ) -> None:
        self._skip, self._gamma, self._range, self._complete = settings.skip, gamma, value_range, complete
        self._processes = processes
        self.tests = settings.tests(processes)
        self.episodes = self.decisions = self.alarms = self.shifts = self.since = 0
        self._begun, self._former, self._down, self._back_after, self._words = 0, 0.0, False, -1, ""
        self._heeded, self._newest = 0, -1
        self._starts, self._won = deque[int](maxlen=REMEMBERED), deque[bool](maxlen=REMEMBERED)

    def on_episode(self, episode: EndedEpisode) -> dict[str, np.ndarray]:
        """Take note of it, and of what the tests make of it."""
        if episode.demo:
            return {}
        self.episodes, self.decisions = self.episodes + 1, self.decisions + len(episode)
        self._newest = int(episode.ids[-1])
        if self.episodes <= self._skip:
            return {}
        self._starts.append(int(episode.ids[0]))
        self._won.append(episode.success)
        seen = {SUCCESS: float(episode.success), CRITIC: self._came(episode)}
        for name, test in self.tests.items():
            value = seen[name]
            fall = None if value is None else test.add(value)
            if fall is not None:
                self.alarms, ago = self.alarms + 1, min(fall.ago, len(self._starts))
                self._turn(self._starts[-ago], self._told(name, fall), ago)
                return {}
        self._look_for_recovery()
        return {}

    def _came(self, episode: EndedEpisode) -> float | None:
        """What came of the critic's promise at the start, in [0, 1]: 1 where it all came; None where nobody knows."""
        if VALUE not in episode.signals or not episode.whole or not (episode.terminated or self._complete):
            return None
        came = float(episode.reward @ self._gamma ** np.arange(len(episode)))
        short = (float(episode.signals[VALUE][0]) - came) / (self._range[1] - self._range[0])
        return 1.0 - min(max(short, 0.0), 1.0)

    def _told(self, name: str, fall: Fall) -> str:
        if name == SUCCESS:
            what = f"success fell from {100 * fall.before:.0f}% to {100 * fall.after:.0f}%"
        else:
            short = 1 - fall.before, 1 - fall.after
            what = f"what the critic promises and does not come rose from {short[0]:.2f} to {short[1]:.2f} of its range"
        return f"shift: {what}, {fall.ago} episodes ago"

    def heed(self) -> None:
        """All processes of the run know of a new alarm by now; where that is not this one's, begin anew as well."""
        if self.alarms == self._heeded:
            self._turn(self._newest + 1, "shift: another process of the run has noticed one", 0)
        self._heeded = self.alarms

    def _turn(self, since: int, words: str, ago: int) -> None:
        """There has been a shift, so many episodes ago: compare only what is heard from now on."""
        former, now = np.split(np.array(self._won, float), [len(self._won) - ago])
        self.shifts, self.since, self._begun, self._back_after = self.shifts + 1, since, self.decisions, -1
        self._former = float(former[-FORMER:].mean()) if len(former) else 0.0
        self._down = ago > 0 and bool(now.mean() < BACK * self._former)
        self._words = f"{words}; the run adapts from here on (alarm {self.shifts})"
        for test in self.tests.values():
            test.restart()
        self._starts.clear()
        self._won.clear()

    def _look_for_recovery(self) -> None:
        if not self.shifts or self._back_after >= 0 or len(self._won) < LATEST:
            return
        now = float(np.mean(list(self._won)[-LATEST:]))
        self._down = self._down or now < BACK * self._former
        if self._down and now >= BACK * self._former:
            self._back_after = (self.decisions - self._begun) * self._processes
            self._words = (
                f"shift: success is back at {100 * now:.0f}%, {self._back_after} decisions after alarm {self.shifts}; "
                f"before that it was {100 * self._former:.0f}%"
            )

    @property
    def said(self) -> str:
        """The last alarm, or that success is back."""
        return self._words

    def statistics(self) -> dict[str, float]:
        """`shift/alarms`; the evidence of each test, and its threshold; after an alarm, the success in percent from
        before it, and how many decisions later it was back, once it is."""
        told = {"shift/alarms": float(self.shifts)}
        for name, test in self.tests.items():
            told |= {f"shift/evidence_{name}": test.evidence, "shift/threshold": test.threshold}
        if self.shifts:
            told["shift/former_success"] = 100.0 * self._former
        if self._back_after >= 0:
            told["shift/back_after"] = float(self._back_after)
        return told

    def state_dict(self) -> dict[str, Any]:
        """What it has heard and found."""
        tests = {name: test.state_dict() for name, test in self.tests.items()}
        heard = {"starts": list(self._starts), "won": list(self._won)}
        return {name: getattr(self, name) for name in _KEPT} | heard | {"tests": tests}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave; a test that it does not tell of begins now."""
        vars(self).update({name: state[name] for name in _KEPT})
        self._starts, self._won = deque(state["starts"], REMEMBERED), deque(state["won"], REMEMBERED)
        for name in self.tests.keys() & state["tests"].keys():
            self.tests[name].load_state_dict(state["tests"][name])
