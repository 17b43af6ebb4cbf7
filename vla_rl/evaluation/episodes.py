"""Episodes on held-out seeds, one a seed, in environments that are stepped together."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from vla_rl.envs import Lane, lanes, spent, spoilt, succeeded, tallied
from vla_rl.envs.history import History, joined
from vla_rl.envs.supervision import LostError
from vla_rl.envs.vector import Steps, VectorEnvs, spare_cores
from vla_rl.evaluation.outcome import EvalResult, Outcome, Sight
from vla_rl.runtime.signals import Interrupted
from vla_rl.specs import HELD_OUT_SEEDS, IMAGES, POINTERS, REMEMBERED, TASK, VALIDATION_SEEDS

if TYPE_CHECKING:
    from vla_rl.config import RunConfig

Make = Callable[[], gymnasium.Env]
Decider = Callable[[dict[str, Any]], tuple[np.ndarray, dict[str, Any]]]
"""A batched observation -> tokens int64 [B, K] and what is known of them: "q", float [B]; `REMEMBERED`, which is put
into the same episodes' next observation; `POINTERS` and a camera's name, float [B, S, 3], see `Sight`."""


def check_seeds(seeds: Iterable[int]) -> list[int]:
    """The seeds as a list, if training uses none of them.

    They must all be held out, or all be validation seeds (which choose among checkpoints, so that what
    is reported in the end was used for no choice).

    Raises:
        ValueError: none; one twice; one that training may use; both kinds mixed.
    """
    seeds = [int(seed) for seed in seeds]
    wrong = next((s for s in seeds if s not in HELD_OUT_SEEDS and s not in VALIDATION_SEEDS), None)
    if wrong is not None or not seeds:
        raise ValueError(
            f"evaluation needs held-out seeds, from {HELD_OUT_SEEDS.start} to {HELD_OUT_SEEDS.stop - 1}; "
            f"got {'none' if wrong is None else wrong}"
        )
    if len({seed in HELD_OUT_SEEDS for seed in seeds}) > 1:
        raise ValueError("evaluation seeds must be all held out or all for validation, not mixed")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"evaluation seeds must differ from one another; {len(seeds) - len(set(seeds))} repeat")
    return seeds


class Evaluator:
    """Runs exactly one episode for each seed, in environments that are made for the first seeds and kept for others.

    An environment whose episode has ended begins the next seed's while the others step. What a deterministic actor
    scores depends neither on `num_envs` nor on `workers`.

    Args:
        make_env: makes an environment that takes tokens int64 [K]; picklable where there are workers. Of several tasks,
            the maker of each by name; all are stepped together.
        num_envs: episodes that run together, at least 1, and at least one of each task.
        workers: processes that step them, several in each; 0 for this one.
        timeout, restarts: seconds that a worker has, and episodes that an environment may lose in a row, see
            `VectorEnvs`; a lost one is invalid.

    Raises:
        ValueError: `num_envs` < 1.
    """

    def __init__(
        self,
        make_env: Make | Mapping[str, Make],
        num_envs: int = 8,
        workers: int = 0,
        timeout: float | None = None,
        restarts: int = 0,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        self._makers, self._num_envs = _by_name(make_env), num_envs
        self._make = partial(VectorEnvs, workers=workers, timeout=timeout, restarts=restarts)
        self._envs: VectorEnvs | None = None
        self._lanes: list[Lane] = []

    def __call__(
        self,
        actor: Decider,
        seeds: Iterable[int],
        films: int = 0,
        on_episode: Callable[[Outcome], None] | None = None,
        stack: int = 1,
    ) -> EvalResult:
        """The episodes of these seeds, where there is one task.

        Args:
            actor: called on the observations of all running episodes, batched.
            seeds: the episodes; see `check_seeds`.
            films: keep the frames of this many successes and as many failures, those of the first seeds.
            on_episode: called with each episode as it ends.
            stack: frames of each camera that the actor sees at once.

        Raises:
            ValueError: a seed that training may use, or no seeds. What an environment raises has a note of its seed
                and step.
        """
        (result,) = self.tasks(actor, seeds, films, on_episode, stack).values()
        return result

    def tasks(
        self,
        actor: Decider,
        seeds: Iterable[int],
        films: int = 0,
        on_episode: Callable[[Outcome], None] | None = None,
        stack: int = 1,
        stopped: Callable[[], bool] = lambda: False,
    ) -> dict[str, EvalResult]:
        """The episodes of these seeds in each task, by its name; see above.

        Raises:
            Interrupted: `stopped()` before all were over.
        """
        try:
            return self._tasks(actor, check_seeds(seeds), films, on_episode, stack, stopped)
        except BaseException:
            self.close()  # which may be in the middle of anything
            raise

    def _tasks(
        self,
        actor: Decider,
        seeds: list[int],
        films: int,
        on_episode: Callable[[Outcome], None] | None,
        stack: int,
        stopped: Callable[[], bool],
    ) -> dict[str, EvalResult]:
        started = time.monotonic()
        if self._envs is None:
            count = min(self._num_envs, len(self._makers) * len(seeds))
            self._lanes = lanes(self._makers, max(count, len(self._makers)))
            self._envs = self._make([lane.make for lane in self._lanes], len(self._lanes))
        envs, running = self._envs, dict[int, _Episode]()
        waiting = {task: deque(seeds) for task in self._makers}
        done = {task: dict[int, Outcome]() for task in self._makers}
        while running or any(waiting.values()):
            if stopped():
                raise Interrupted(f"told to stop after {sum(map(len, done.values()))} evaluation episodes")
            begun = {}
            for number, lane in enumerate(self._lanes):
                if number not in running and waiting[lane.task]:
                    begun[number] = _Episode(waiting[lane.task].popleft(), films > 0, stack)
            try:
                _turn(actor, envs, running, begun)
            except LostError as error:
                return self._lost(error, seeds, done, time.monotonic() - started)
            for number, episode in [(number, episode) for number, episode in running.items() if episode.ended]:
                ended = done[self._lanes[number].task]
                outcome = ended[episode.seed] = running.pop(number).outcome()
                if on_episode:
                    on_episode(outcome)
                _forget_frames(ended, seeds, films)
            running |= begun
        seconds = time.monotonic() - started
        return {
            task: EvalResult(task or envs.name, tuple(ended[seed] for seed in seeds), seconds)
            for task, ended in done.items()
        }

    def _lost(
        self, error: LostError, seeds: Sequence[int], done: Mapping[str, Mapping[int, Outcome]], seconds: float
    ) -> dict[str, EvalResult]:
        """What has been found before the environments were given up; the other episodes are invalid."""
        assert self._envs is not None
        name = self._envs.name
        self.close()
        why = f"{type(error.__cause__).__name__}: {error.__cause__}"
        left = sum(len(seeds) - len(ended) for ended in done.values())
        print(f"warning: {error}\nwarning: {left} evaluation episodes are lost: {why}", file=sys.stderr)
        return {
            task: EvalResult(task or name, tuple(ended.get(seed) or Outcome.lost(seed, why) for seed in seeds), seconds)
            for task, ended in done.items()
        }

    def renew(self, make_env: Make | Mapping[str, Make]) -> None:
        """Have the next episodes run in environments that this makes, because the world is another by now."""
        self.close()
        self._makers = _by_name(make_env)

    def close(self) -> None:
        """End the environments; further episodes run in others."""
        if self._envs is not None:
            self._envs.close()
            self._envs = None


def _by_name(make_env: Make | Mapping[str, Make]) -> Mapping[str, Make]:
    """Makers by the name of their task; a single one has none."""
    return make_env if isinstance(make_env, Mapping) else {"": make_env}


def evaluate(
    actor: Decider,
    make_env: Callable[[], gymnasium.Env],
    seeds: Iterable[int],
    num_envs: int = 8,
    films: int = 0,
    on_episode: Callable[[Outcome], None] | None = None,
    stack: int = 1,
    workers: int = 0,
    timeout: float | None = None,
    restarts: int = 0,
) -> EvalResult:
    """Run exactly one episode for each seed in environments of its own; see `Evaluator` for all that is given.

    Raises:
        ValueError: a seed that training may use, no seeds, or `num_envs` < 1.
    """
    with closing(Evaluator(make_env, num_envs, workers, timeout, restarts)) as evaluator:
        return evaluator(actor, seeds, films, on_episode, stack)


def workers_of(run: RunConfig, sharing: int = 1) -> int:
    """How many processes step the environments of the run's evaluations, where so many processes share the cores.

    The trainer waits for them, so that all of its part of the cores are theirs; with a single one there is none.
    """
    if run.eval.workers != "auto":
        return run.eval.workers
    spare = spare_cores(sharing) if run.train.workers else 0
    return spare + 1 if spare else 0


def _turn(actor: Decider, envs: VectorEnvs, running: dict[int, _Episode], begun: dict[int, _Episode]) -> None:
    """Let every running episode take a step, and meanwhile those begin that have `begun`, each in its lane."""
    try:
        if running:
            decided, info = actor(joined([episode.seen for episode in running.values()]))
            tokens, q, noted = np.array(decided, np.int64), info.get("q"), info.get(REMEMBERED)
            pointers = {key.removeprefix(POINTERS): each for key, each in info.items() if key.startswith(POINTERS)}
            envs.send(tokens, [*running])
        if begun:
            envs.send_seeds([episode.seed for episode in begun.values()], [*begun])
        if running:
            steps = envs.receive()
            for row, episode in enumerate(running.values()):
                if noted is not None:
                    episode.remember(noted[row : row + 1])
                episode.point({camera: each[row] for camera, each in pointers.items()})
                episode.step(steps, row, tokens[row], None if q is None else float(q[row]))
        if begun:
            steps = envs.receive()
            for row, episode in enumerate(begun.values()):
                episode.look(steps, row, fresh=True)
    except (RuntimeError, TimeoutError) as error:
        under_way = [f"{lane}: seed {each.seed}, step {len(each.tokens)}" for lane, each in (running | begun).items()]
        error.add_note(f"evaluation episodes under way by environment: {'; '.join(under_way)}")
        raise


class _Episode:
    """An episode under way.

    Attributes:
        seen: what the actor sees now, a batch of one.
        ended: whether it is over.
    """

    def __init__(self, seed: int, filmed: bool, stack: int) -> None:
        self.seed, self.filmed = seed, filmed
        self.seen: dict[str, Any] = {}
        self.ended = False
        self.tokens: list[np.ndarray] = []
        self._history = History(stack)
        self._task, self._info, self._length = "", dict[str, Any](), 0
        self._cost = 0.0
        self._rewards, self._q, self._frames = list[float](), list[float](), list[np.ndarray]()
        self._camera, self._texts, self._pointers = "", list[str](), list[np.ndarray]()

    def remember(self, noted: np.ndarray) -> None:
        """Keep what the policy made of what it saw, a batch of one."""
        self._history.remember(noted)

    def point(self, pointers: Mapping[str, np.ndarray]) -> None:
        """Keep where things were thought to be, float [S, 3] by camera, and what was asked, before a decision."""
        if self.filmed:
            self._texts.append(self._task)
            self._pointers.extend([pointers[self._camera]] if self._camera in pointers else [])

    def step(self, steps: Steps, row: int, tokens: np.ndarray, q: float | None) -> None:
        """Take in what `tokens`, of value `q`, have led to."""
        self.tokens.append(tokens)
        self._q.extend([] if q is None else [q])
        self._rewards.append(float(steps.reward[row]))
        self._info = steps.infos[row]
        self._length += int(self._info.get("steps", 1))
        self._cost += spent(self._info)
        self.ended = bool(steps.terminated[row] or steps.truncated[row])
        self.look(steps, row, fresh=False)

    def look(self, steps: Steps, row: int, fresh: bool) -> None:
        """Take in what is shown in a row of `steps`; `fresh`: at the episode's beginning."""
        observation = {key: value[row : row + 1] for key, value in steps.observation.items()}
        self.seen = self._history.push(observation, np.array([fresh]))
        self._task = str(observation[TASK][0])
        if self.filmed:
            camera = next(key for key in observation if key.startswith(IMAGES))
            self._camera = camera.removeprefix(IMAGES)
            self._frames.append(np.array(observation[camera][0], np.uint8))

    def outcome(self) -> Outcome:
        """What became of it."""
        return Outcome(
            seed=self.seed,
            task=self._task,
            success=succeeded(self._info),
            sum_reward=sum(self._rewards),
            max_reward=max(self._rewards),
            length=self._length,
            invalid=spoilt(self._info),
            error=str(self._info.get("error") or ""),
            tokens=np.stack(self.tokens),
            q=tuple(self._q),
            frames=tuple(self._frames) if self.filmed else None,
            cost=self._cost,
            tallies=tallied(self._info),
            stage=self._info.get("stage"),
            rewards=tuple(self._rewards),
            sight=self._sight() if self.filmed else None,
        )

    def _sight(self) -> Sight:
        pointers = np.stack(self._pointers) if self._pointers else np.zeros((0, 0, 3), np.float32)
        return Sight(self._camera, tuple(self._frames), tuple(self._texts), pointers)


def _forget_frames(done: dict[int, Outcome], seeds: Sequence[int], films: int) -> None:
    """Keep the frames of the first `films` successes and failures, so that memory does not grow with the seeds."""
    for success in (True, False):
        filmed = [seed for seed in seeds if seed in done and done[seed].frames is not None]
        kind = [seed for seed in filmed if done[seed].success == success and not done[seed].invalid]
        for seed in set(kind[films:]) | {seed for seed in filmed if done[seed].invalid}:
            done[seed] = dataclasses.replace(done[seed], frames=None, sight=None)
