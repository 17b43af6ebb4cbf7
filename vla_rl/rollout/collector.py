"""Acting in many environments at once, and remembering."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from vla_rl.algorithms.algorithm import Decision
from vla_rl.envs import SPOILT, SUCCESS, spent, spoilt, succeeded
from vla_rl.envs.given import GivenEnvs
from vla_rl.envs.history import History
from vla_rl.envs.vector import Steps, VectorEnvs
from vla_rl.replay import ReplayBuffer
from vla_rl.rollout.episode_counts import EpisodeCounts
from vla_rl.rollout.group import Group, replaced
from vla_rl.rollout.parcel import Outbox
from vla_rl.rollout.pilot import Flight, Pilot, Turn, judged
from vla_rl.rollout.source import Act, Timer
from vla_rl.rollout.tallies import Tallies
from vla_rl.rollout.task_statistics import TaskStatistics
from vla_rl.specs import COST, EPISODE_TASK, REMEMBERED, TALLIES, VERIFIED, check_training_seed

UNABLE = "its environment cannot tell where it stands"


class Collector:
    """Steps environments with a policy, and writes every observation to replay once.

    The environments of a group work while the policy acts for other groups, and while the caller learns: what came of
    a decision is taken in at the group's next turn.

    The environments reset in the step after an episode's end, so an episode's final observation passes through `step`
    like any other and becomes its final row.

    Args:
        envs: environments that take tokens int64 [K].
        replay: with one lane for each environment, and with `specs.SIGNALS`; or what goes to one elsewhere.
        seed: of each lane's first reset, or of the first lane's, the next lane's is one more; all training seeds.
        groups: of lanes, in turn; at most one for each lane.
        tasks: the name of each lane's task; of several, success is told of each, too. A row's signal `task` is the
            place of its task among those that are named, in the order of their first lanes.

    Attributes:
        counts: of the episodes that ended. tallies: what they told of themselves.
        pilot: who looks on and may decide for some lanes in the policy's place; None for nobody.
    """

    def __init__(
        self,
        envs: VectorEnvs | GivenEnvs,
        replay: ReplayBuffer | Outbox,
        seed: int | Sequence[int],
        groups: int = 1,
        recent: int = 100,
        tasks: Sequence[str] = (),
    ) -> None:
        self.envs, self.replay = envs, replay
        self.pilot: Pilot | None = None
        seeds = range(seed, seed + envs.count) if isinstance(seed, int) else seed
        self._seeds = [check_training_seed(each) for each in seeds]
        observation = envs.reset(self._seeds).observation
        self._groups: deque[Group] = deque()
        for lanes in np.array_split(np.arange(envs.count), min(groups, envs.count)):
            some, count = slice(int(lanes[0]), int(lanes[-1]) + 1), len(lanes)
            seen = {key: value[some] for key, value in observation.items()}
            none = np.zeros(count, bool)
            group = Group(some, seen, none, ~none, none, History(replay.stack), Flight(none))
            self._groups.append(group)
        self._turn = self._groups[0]
        self.tasks = list(dict.fromkeys(tasks))
        self._tasks = np.array([self.tasks.index(task) for task in tasks] or [0] * envs.count, np.int32)
        self._latest, self.tallies = TaskStatistics(self.tasks, recent), Tallies(recent)
        replay.listen(self._latest)
        self.counts = EpisodeCounts()

    @property
    def lane_tasks(self) -> list[str]:
        """The name of each lane's task; none where tasks have no names."""
        return [self.tasks[number] for number in self._tasks.tolist()] if self.tasks else []

    @property
    def episodes(self) -> int:
        """Valid ones that ended."""
        return self.counts.episodes

    @property
    def invalid_episodes(self) -> int:
        """Those that the environment spoilt."""
        return self.counts.invalid_episodes

    @property
    def turn(self) -> slice:
        """The lanes of the group whose turn it is."""
        return self._turn.lanes

    @property
    def success_rate(self) -> float:
        """Share of successes among the latest episodes; NaN before the first."""
        return self._latest.success_rate

    def step(self, act: Act, log: Timer) -> int:
        """Take in what came of the decisions of the group whose turn it is, decide anew, and leave it at work.

        Returns:
            How many transitions that made; none at a group's first turn.

        Raises:
            FaultError: see `check`.
        """
        self.check()
        group = self._turn = self._groups[0]
        self._groups.rotate(-1)
        made = self._take_in(group, log)
        with log.timed("act"):
            seen = group.history.push(group.observation, group.fresh, group.again)
            decision = act(seen)
        group.turn = turn = self._turn_of(group, decision)
        group.again = None if turn.whole else turn.rests
        noted = decision.remembered
        if noted is not None:
            group.observation = {**group.observation, REMEMBERED: seen.get(REMEMBERED, np.zeros_like(noted))}
            group.history.remember(noted, group.again)
        group.flight.send(self.envs, group.lanes, turn)
        return made

    def _turn_of(self, group: Group, decision: Decision) -> Turn:
        """What the lanes are to do, by the policy or by who decides in its place."""
        if self.pilot is None:
            return Turn.of(decision)
        turn = self.pilot.turn(group.lanes, group.observation, group.final, decision)
        assert not (turn.rests & group.final).any(), "an episode that is over rests"
        return turn

    def settle(self, log: Timer) -> int:
        """Take in what came of all decisions, so that nothing is under way; returns how many transitions that made."""
        return sum(self._take_in(group, log) for group in self._groups)

    def _receive(self, group: Group, log: Timer) -> None:
        """Wait for what comes of the group's decisions."""
        if group.turn is not None and group.steps is None:
            with log.timed("step"):
                group.steps = group.flight.receive(self.envs, group.observation, group.turn)

    def _take_in(self, group: Group, log: Timer) -> int:
        """Remember what came of the group's decisions, if any are under way; how many transitions that made."""
        if group.turn is None:
            return 0
        self._receive(group, log)
        turn, steps, group.turn, group.steps = group.turn, group.steps, None, None
        assert steps is not None, "they have been received"
        acted = ~turn.rests
        if turn.verdict.any():
            steps, group.flight.anew = judged(steps, turn.verdict)
        if self.pilot is not None:
            self.pilot.saw(group.lanes, steps, acted, group.final)
        said = np.array([spoilt(info) for info in steps.infos])
        broke = said & ~group.final
        left_out = group.spoilt | broke
        with log.timed("remember"):
            if broke.any():
                self.replay.discard(group.lanes.start + np.flatnonzero(broke))
            signals = turn.decision.extras | self._told(group, steps)
            self._remember(group, turn, steps, signals, acted & ~left_out)
        made = int((acted & ~group.final).sum())
        ended = (steps.terminated | steps.truncated) & ~group.final
        valid, invalid = np.flatnonzero(ended & ~left_out), np.flatnonzero(ended & left_out)
        self.tallies.take(steps.infos[lane] for lane in valid)
        self.counts.take(len(valid), len(invalid), *(str(steps.infos[i].get("error") or "") for i in invalid[:1]))
        # Where an episode was reset, what is said is said of the next one.
        before, group.spoilt = group.final, np.where(group.final, said, left_out)
        group.observation, group.final = steps.observation, ended
        group.fresh = np.where(acted, before, group.fresh)
        return made

    def _told(self, group: Group, steps: Steps) -> dict[str, np.ndarray]:
        """The signals of the environments, [B, ...] by name, as replay declares them."""
        told: dict[str, np.ndarray] = {
            COST: np.array([spent(info) for info in steps.infos]),
            VERIFIED: np.array([succeeded(info) for info in steps.infos]),
            EPISODE_TASK: self._tasks[group.lanes],
        }
        for signal in self.replay.signals:
            if signal.name in told or not any(signal.name in info for info in steps.infos):
                continue
            none = np.zeros(signal.shape, signal.dtype)
            told[signal.name] = np.array([info.get(signal.name, none) for info in steps.infos])
        return told

    def _remember(
        self, group: Group, turn: Turn, steps: Steps, signals: dict[str, np.ndarray], kept: np.ndarray
    ) -> None:
        """Write the rows of those lanes that `kept` (bool [B]) says to replay."""
        lanes = np.arange(group.lanes.start, group.lanes.stop)
        rows: dict[str, Any] = {
            "observation": group.observation,
            "tokens": turn.decision.tokens,
            "reward": steps.reward,
            "terminated": steps.terminated,
            "truncated": steps.truncated,
            "final": group.final,
            "features": turn.decision.features,
            "demo": turn.shown & ~group.final,
            "lanes": lanes,
            "signals": signals,
        }
        if not kept.all():
            rows = {name: _picked(value, np.flatnonzero(kept)) for name, value in rows.items()}
        if kept.any():
            self.replay.add(**rows)

    def check(self, over: bool = False) -> None:
        """Whether there is anything to learn from.

        Raises:
            FaultError: many episodes in a row were invalid; or all of them, where the run is `over`.
        """
        self.counts.check(self.envs.count, over)

    def statistics(self) -> dict[str, float]:
        """What the log shows of the episodes; of those that the environment spoilt, their number alone.

        Where people took over, `train/taken_over`: how many of their decisions replay holds.
        """
        taken_over = self.replay.demonstrated
        return {
            **self.replay.statistics(),
            **self.tallies.statistics(),
            **({"train/taken_over": float(taken_over)} if taken_over else {}),
            **self.counts.statistics(),
        }

    def describe(self) -> str:
        """Where the environments are, in a line for people."""
        return self.envs.describe()

    def state_dict(self, log: Timer) -> dict[str, Any]:
        """Where all lanes stand, once what came of their decisions is there; that is taken in as it would have been.

        Nothing of it may be changed while it is kept.
        """
        for group in self._groups:
            self._receive(group, log)
        told = {*SUCCESS, *SPOILT, *TALLIES, COST, "error", *(signal.name for signal in self.replay.signals)}
        return {
            "groups": [group.state_dict(told) for group in self._groups],
            "snapshots": self.envs.snapshot(),
            "tallies": self.tallies.state_dict(),
            **self.counts.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], log: Timer) -> tuple[int, dict[int, str]]:
        """Go on from what `state_dict` gave, when replay has been loaded.

        Where an environment cannot, its lane begins another episode, and the one that was running ends there for
        replay, once what came of all decisions is taken in.

        Returns:
            How many transitions that made, and why lanes begin anew, by their number.

        Raises:
            ValueError: the state is of other lanes or groups; nothing has changed.
        """
        saved, own = ([range(*group["lanes"]) for group in state["groups"]], [group.lanes for group in self._groups])
        if sorted((each.start, each.stop) for each in saved) != sorted((each.start, each.stop) for each in own):
            raise ValueError(f"it tells of lanes in groups {saved}, and there are {own}")
        groups = deque(Group.of(each, self.replay.stack) for each in state["groups"])
        counts, tallies = EpisodeCounts(), state["tallies"]
        counts.load_state_dict(state)
        begun = self._observations()
        snapshots = {lane: each for lane, each in enumerate(state["snapshots"]) if each is not None}
        failed = self.envs.restore(snapshots)
        reasons = {lane: UNABLE for lane in set(range(self.envs.count)) - snapshots.keys()}
        reasons |= {lane: f"{type(error).__name__}: {error}" for lane, error in failed.items()}
        self._groups = groups
        self.counts = counts
        self.tallies.load_state_dict(tallies)
        if not reasons:
            return 0, {}
        made = self.settle(log)
        if failed:  # and may stand anywhere by now; the others have begun an episode, and done nothing yet
            assert isinstance(self.envs, VectorEnvs), "others have no snapshots"
            again = sorted(failed)
            self.envs.send_seeds([self._seeds[lane] for lane in again], again)
            begun = {key: replaced(begun[key], again, value) for key, value in self.envs.receive().observation.items()}
        self.replay.interrupt(sorted(reasons))
        for group in self._groups:
            group.begin([lane for lane in sorted(reasons) if group.lanes.start <= lane < group.lanes.stop], begun)
        return made, reasons

    def _observations(self) -> dict[str, Any]:
        """The newest of all lanes, in order."""
        groups = sorted(self._groups, key=lambda group: group.lanes.start)
        columns = {key: [group.observation[key] for group in groups] for key in groups[0].observation}
        return {
            key: [text for part in parts for text in part] if isinstance(parts[0], list) else np.concatenate(parts)
            for key, parts in columns.items()
        }

    def close(self) -> None:
        """End the environments."""
        self.envs.close()


def _picked(value: Any, rows: np.ndarray) -> Any:
    if isinstance(value, dict):
        return {key: _picked(item, rows) for key, item in value.items()}
    return [value[i] for i in rows] if isinstance(value, list) else value[rows]
