"""What the loop is made of."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from gymnasium.vector import VectorEnv

from vla_rl import build
from vla_rl.algorithms.acting import Explorer
from vla_rl.algorithms.algorithm import ActsByScorer, Adapts, Algorithm, Decision, Listens
from vla_rl.algorithms.needs import Needs
from vla_rl.algorithms.value_range import check_returns
from vla_rl.autotune import feature_cache
from vla_rl.autotune.alike import choose_alike, tune_alike
from vla_rl.config import RunConfig
from vla_rl.data.demos import Demonstrations
from vla_rl.data.normalise import normalise
from vla_rl.envs import EnvSpec, Past, lanes
from vla_rl.envs.given import given_spec
from vla_rl.envs.vector import VectorEnvs
from vla_rl.evaluation.critic_health import CriticHealth
from vla_rl.evaluation.episodes import Evaluator, workers_of
from vla_rl.evaluation.outcome import percent
from vla_rl.models.policy import Policy
from vla_rl.registry import ConfigError
from vla_rl.replay import Batch, Own, ReplayBuffer, sample_mixed
from vla_rl.report.drawn import shown
from vla_rl.rollout.acting_statistics import ActingStatistics
from vla_rl.rollout.actor import Actor
from vla_rl.rollout.calls import FollowUp
from vla_rl.rollout.collector import Collector
from vla_rl.rollout.resets import ResetCredit
from vla_rl.rollout.source import Source
from vla_rl.rollout.sources import Lanes, make_source
from vla_rl.runtime import checkpoint
from vla_rl.runtime.begun import Begun
from vla_rl.runtime.heeded import warn_of_blindness
from vla_rl.runtime.lane_seeds import lane_seeds
from vla_rl.runtime.learner import Learner
from vla_rl.runtime.logger import Log
from vla_rl.runtime.memory import taking_memory
from vla_rl.runtime.reference import reference_policy
from vla_rl.runtime.schedule import Schedule
from vla_rl.runtime.signals import Interrupted, Stop
from vla_rl.specs import VALIDATION_SEEDS

T = TypeVar("T")
LEAST_ERROR = 1e-3
"""Added to a row's error, so that it stays in play; in units of value."""


@dataclass
class Progress:
    """How far a run has come, through all of its resumptions.

    step: decisions. seconds: that the loop took. owed: updates that are due, with a fraction. updates: those that were
    done. due: what was done when. attended: whether all that is due at this step has been done.
    """

    step: int = 0
    seconds: float = 0.0
    owed: float = 0.0
    updates: int = 0
    due: Schedule = field(default_factory=lambda: Schedule(0))
    attended: bool = False

    def state_dict(self) -> dict[str, Any]:
        """All but the step, which the generation tells."""
        own = {name: getattr(self, name) for name in ("seconds", "owed", "attended", "updates")}
        return {**own, "due": self.due.state_dict()}

    def load_state_dict(self, step: int, state: dict[str, Any] | None) -> None:
        """Go on from `step`, of which a run saved `state`; one of an older version saved none."""
        self.step, self.due = step, Schedule(step)
        if state is not None:
            self.seconds, self.owed, self.attended = state["seconds"], state["owed"], state.get("attended", False)
            self.updates = state.get("updates", 0)
            self.due.load_state_dict(state["due"])


@dataclass
class TrainState:
    """Everything that a run is made of. critic_health: how acting by the critic does, in words; "" if nobody knows.
    warned: the warnings that a person was told."""

    run: RunConfig
    learner: Learner
    policy: Policy
    algorithm: Algorithm
    collector: Source
    replay: ReplayBuffer
    demos: ReplayBuffer
    spec: EnvSpec
    cache: feature_cache.CacheChoice
    backbone: str
    own: Own
    evaluator: Evaluator
    acting: ActingStatistics
    follow_up: FollowUp | None
    rng: np.random.Generator
    log: Log
    resets: ResetCredit | None = None
    critic_health: str = ""
    warned: set[str] = field(default_factory=set)
    progress: Progress = field(default_factory=Progress)
    failure: Exception | None = None

    def close(self) -> None:
        """End all environments, and what the tracker is told."""
        self.collector.close()
        self.evaluator.close()
        if self.follow_up is not None:
            self.follow_up.close()
        if self.resets is not None:
            self.resets.close()
        self.learner.close()

    @property
    def needs(self) -> Needs:
        """What the algorithm asks of the run."""
        return self.run.algorithm.needs

    def batch(self) -> Batch:
        """A batch by shares: demonstrations and own experience."""
        needs = self.needs
        self.demos.reconsider()
        return sample_mixed(
            self.replay,
            self.demos,
            needs.batch_size,
            needs.demo_share,
            self.rng,
            finished_only=needs.finished_only,
            following=needs.following,
            to_end=needs.to_end,
            one_step=needs.one_step,
            going_on=needs.going_on,
            images=not (self.policy.frozen_trunk and self.cache.cached),
            own=self.drawing,
        )

    @property
    def drawing(self) -> Own:
        """How own experience is drawn, by now."""
        if not self.needs.adapts:
            return self.own
        since, share = cast("Adapts", self.algorithm).recent
        return replace(self.own, since=since, recent_share=share)

    def ready(self) -> bool:
        """Whether there is something to learn from, in every process."""
        own = any(buffer.can_sample(self.needs.finished_only) for buffer in (self.replay, self.demos))
        return self.learner.total(own)[0] == self.learner.processes

    def explore(self, observation: dict[str, Any]) -> Decision:
        """What the environments whose turn it is are to do."""
        collector = cast("Collector", self.collector)
        turn = collector.turn
        decision = self.algorithm.explore(observation, turn)
        if self.resets is None:
            return decision
        return self.resets.told(decision, observation, cast("VectorEnvs", collector.envs), turn, self.replay.added)

    def followed_up(self, made: int) -> None:
        """What is due after so many decisions of finding out what calls of tools are worth, where the run asks."""
        if self.follow_up is not None and self.progress.step >= self.run.train.learning_starts:
            with self.log.timed("follow"), self.learner.at_own_pace():
                self.log.update(self.follow_up(made))

    def learn(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Update from a batch; where rows are drawn by priority, those of this one get theirs."""
        metrics = self.algorithm.update(batch)
        self.progress.updates += 1
        if self.own.by == "priority":
            # With another goal, a row errs otherwise than it does with its own.
            own = ~batch.demo & ~batch.relabelled
            error = self.algorithm.priorities().double().cpu().numpy()[own]
            self.replay.prioritise(batch.index[own], (error + LEAST_ERROR) ** self.run.replay.priority)
        return metrics


def make(run: RunConfig, folder: Path, given: VectorEnv | None = None) -> TrainState:
    """Build every part of the run, once; its tracker writes into `folder`. given: to act in, see `taking`.

    Where that holds a run which goes on, its policy is the one that was saved last, and nothing is looked for where it
    was started from.

    Raises:
        ConfigError: parts that do not fit one another; or a run that goes on with what it cannot change.
    """
    begun = Begun.of(folder)
    if begun is not None:
        begun.check(run, folder)
    taken = None if given is None else given_spec(given, run.action_space, run.plugins)
    run = build.with_gamma(build.with_fitted_tokens(run, taken), taken)
    checkpoint.seed_all(run.seed)  # What is built is the same in all processes,
    spec = taken or build.env_spec(run, held=True)
    learner = build.learner(run, folder)
    shown = build.demonstrations(run, spec)
    policy = build.start_policy(run, spec, begun)
    reference = reference_policy(policy, run, begun)  # of what is whole still
    chosen = run if begun is None else begun.as_chosen(run, learner.device.type)
    backbone = tune_alike(learner, policy, chosen, spec.observation)
    warn_of_blindness(policy)
    parts = build.algorithm_parts(run, spec, policy)
    with taking_memory("algorithm"):
        algorithm = run.algorithm.build(policy=policy, learner=learner, reference=reference, **parts)
    cache = choose_alike(learner, chosen, spec.observation, policy)
    if isinstance(explorer := getattr(algorithm, "explorer", None), Explorer):
        explorer.keeps_features = cache.cached
    replay, demos = _buffers(run, spec, policy, shown, cache.cached, folder / "replay" / str(learner.rank))
    if begun is None and run.train.checkpoint is None:
        normalise(policy, demos)
    check_returns(run, spec, demos)
    resets = ResetCredit.of(run, build.env_factories(run, spec).values(), policy)
    _check_worlds(run, spec, resets is not None, given is not None)
    makers = build.env_factories(run, spec, past=past(run, learner, begun), failed_starts=run.train.failed_starts)
    dealt = lanes(makers, run.train.num_envs)
    own_lanes = Lanes(dealt, *lane_seeds(run.seed, run.train.num_envs, learner, folder))
    progress, taking = Progress(), (given, spec.tokens) if given else None
    replay.listen(acting := ActingStatistics(len(run.envs)))
    if run.algorithm.needs.listens:
        for listener in cast("Listens", algorithm).listeners:
            replay.listen(listener)
    rng = checkpoint.seed_all(run.seed, learner.rank)  # what then is drawn is each one's own.
    source = make_source(run, folder.name, own_lanes, replay, policy, learner, lambda: progress.updates, taking)
    return TrainState(
        run=run,
        learner=learner,
        policy=policy,
        algorithm=algorithm,
        collector=source,
        replay=replay,
        demos=demos,
        spec=spec,
        cache=cache,
        backbone=backbone,
        own=build.own_experience(run, spec),
        evaluator=Evaluator(
            build.env_factories(run, spec, past=Past(), held=True),
            run.eval.num_envs,
            workers_of(run, learner.processes),
            run.train.step_timeout,
            run.train.restarts,
        ),
        acting=acting,
        follow_up=follow_up(run, spec, algorithm, learner),
        rng=rng,
        log=Log(
            folder, learner.accelerator, run.train.steps, run.env_name, learner.rank == 0, minutes=run.train.minutes
        ),
        resets=resets,
        progress=progress,
    )


def _buffers(
    run: RunConfig, spec: EnvSpec, policy: Policy, shown: tuple[Demonstrations, ...], cached: bool, folder: Path
) -> tuple[ReplayBuffer, ReplayBuffer]:
    """The run's own experience, in `folder` where it is to be on disk, and the demonstrations."""
    book, capacity = build.credit_book(run), run.replay.capacity
    replay = build.replay(run, spec, policy, capacity, run.train.num_envs, folder=folder, cached=cached, book=book)
    return replay, build.demo_replay(run, spec, policy, shown, cached, book)


def _check_worlds(run: RunConfig, spec: EnvSpec, resets: bool, given: bool) -> None:
    """Raises ConfigError where the run asks of its environments what these cannot do."""
    if resets and given:
        raise ConfigError("algorithm.credit: resets need environments that the run makes; these were given to it")
    if run.train.failed_starts and (given or spec.shifts):
        raise ConfigError("train.failed_starts: not for environments that are given, or that shift in mid-run; use 0")


def follow_up(run: RunConfig, spec: EnvSpec, algorithm: Algorithm, learner: Learner) -> FollowUp | None:
    """What finds out what calls of tools are worth, where the run asks; says so where it cannot: no snapshots, or a
    world that shifts in mid-run, since that of the rollouts would not."""
    learning = getattr(algorithm, "calls", None)
    if learning is None or learning.settings.share == 0:
        return None
    makers = list(build.env_factories(run, spec).values())
    found = None if spec.shifts else FollowUp(learning, makers, build.discount(run), (run.seed, learner.rank))
    if (found is None or not found.able) and learner.rank == 0:
        why = "has no snapshots" if found else "shifts in mid-run"
        print(f"algorithm.calls: {run.env_name} {why}, so the value of calls is learned only")
    return found


def past(run: RunConfig, learner: Learner, begun: Begun | None) -> Past:
    """The run's episodes up to its checkpoint, from which environments go on whose world shifts in mid-run."""
    episodes = 0 if begun is None else begun.told("episodes")
    return Past(learner.processes * episodes, learner.processes * run.train.num_envs)


def validate(state: TrainState, stop: Stop) -> dict[str, float] | None:
    """Greedy success on seeds that neither training nor the final evaluation uses, in the world as it is by now.

    The episodes are dealt out to the tasks, and of each its seeds to the processes; where there are several tasks, the
    success of each is told, too, and that of held ones apart. None where the run is told to stop meanwhile.
    """
    learner, own_tasks = state.learner, len(state.run.envs)
    tasks = [env.name for env in (*state.run.envs, *state.run.held_envs)]
    count = max(state.run.train.eval_episodes // own_tasks, 1)
    if state.spec.shifts:
        past = Past(learner.processes * state.collector.episodes)
        state.evaluator.renew(build.env_factories(state.run, state.spec, past=past, held=True))
    seeds = VALIDATION_SEEDS[:count][learner.rank :: learner.processes]

    def own() -> list[int]:
        if not seeds:
            return [0] * 3 * len(tasks)
        actor = Actor(state.policy, state.algorithm.scorer)
        try:
            films, stack = int(learner.shows_films), state.run.replay.stack
            results = state.evaluator.tasks(actor, seeds, films, stack=stack, stopped=lambda: stop.asked)
        except Interrupted:
            assert stop.asked, "nothing else interrupts"
            return [0] * 3 * len(tasks)
        learner.show(state.progress.step, shown(results, state.spec.tokens, state.spec.actions))
        of_tasks = (results[name] for name in tasks)
        return [count for each in of_tasks for count in (each.successes, len(each.valid), each.n_invalid)]

    *counts, stopped = learner.total(*together(state, own), stop.asked)
    if stopped:
        return None
    totals = np.array(counts, int).reshape(-1, 3)
    successes, valid, invalid = totals[:own_tasks].sum(axis=0).tolist()
    found = {
        "eval/pc_success": percent(successes, valid),
        "eval/episodes": float(valid),
        "eval/invalid_episodes": float(invalid),
    }
    for number, (task, of_task) in enumerate(zip(tasks, totals.tolist(), strict=True)):
        if len(tasks) > 1:
            found[f"eval/pc_success/{'held/' * (number >= own_tasks)}{task}"] = percent(*of_task[:2])
    return found


def check_critic(state: TrainState) -> dict[str, float]:
    """How acting by the critic does beside acting without it, by the latest episodes of all processes; the algorithm
    takes note of it. Nothing where no lane acts by it."""
    if not state.needs.best_of:
        return {}
    counts = state.acting.counts
    joint = np.array(state.learner.total(*counts.ravel().tolist())).reshape(counts.shape)
    found = CriticHealth.of(joint, state.needs.best_of)
    state.critic_health = found.tell(cast("ActsByScorer", state.algorithm))
    return found.metrics


def renew(state: TrainState) -> dict[str, float]:
    """Have critics see as the actor does by now; how many seconds that took. Nothing may be under way."""
    begun = time.monotonic()
    with state.learner.alike():  # adapters begin anew at random
        state.policy.renew()
    encode_anew(state)
    return {"time/renew": time.monotonic() - begun}


def encode_anew(state: TrainState) -> None:
    """Make the features that replay and demonstrations cache of what `policy.ground` sees, unless they are that."""
    ground, digest = build.grounding(state.policy), state.policy.digest()
    with state.learner.at_own_pace():
        for buffer in (state.replay, state.demos):
            buffer.renew(ground, digest)


def together(state: TrainState, work: Callable[[], T]) -> T:
    """What `work` gives, once it is known that it went well in all processes of the run.

    Raises:
        Whatever it raised, in the process concerned; RuntimeError in the others.
    """
    result: T | None = None
    try:
        with state.learner.at_own_pace():
            result = work()
    except Exception as error:
        state.failure = error
    if not state.learner.agree(state.failure is None):
        state.failure = state.failure or RuntimeError("another process of the run failed; its own error says why")
        raise state.failure
    return cast("T", result)


def agreed(learner: Learner, made: int, elapsed: float = 0.0, stop: bool = False) -> tuple[int, float, bool]:
    """What all processes of a run go by, so that they learn equally often and end together.

    The first one's transitions made and share of the time; and whether any of them was asked to stop.
    """
    first = learner.rank == 0
    made_by_first, elapsed, asked = learner.total(made * first, elapsed * first, stop)
    return int(made_by_first), elapsed, asked > 0
