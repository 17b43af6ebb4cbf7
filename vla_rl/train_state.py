"""What the loop is made of: made, saved, restored."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from gymnasium.vector import VectorEnv

from vla_rl import build, registry
from vla_rl.algorithms.algorithm import ActsByScorer, Algorithm, Decision, Listens
from vla_rl.algorithms.needs import Needs
from vla_rl.autotune import feature_cache
from vla_rl.autotune.backbone import tune
from vla_rl.config import RunConfig
from vla_rl.data.demos import Demonstrations
from vla_rl.envs import EnvSpec, Past, lanes
from vla_rl.envs.given import GivenEnvs, given_spec
from vla_rl.envs.vector import VectorEnvs, spare_cores
from vla_rl.evaluation.critic_health import CriticHealth
from vla_rl.evaluation.episodes import Evaluator, workers_of
from vla_rl.evaluation.outcome import percent
from vla_rl.models.policy import Policy
from vla_rl.registry import ConfigError
from vla_rl.replay import Batch, Own, ReplayBuffer, sample_mixed
from vla_rl.report.drawn import shown
from vla_rl.rollout.acting_statistics import ActingStatistics
from vla_rl.rollout.actor import Actor
from vla_rl.rollout.collector import Collector
from vla_rl.runtime import checkpoint
from vla_rl.runtime.lane_seeds import lane_seeds
from vla_rl.runtime.learner import Learner
from vla_rl.runtime.memory import taking_memory
from vla_rl.runtime.schedule import Schedule
from vla_rl.runtime.signals import Interrupted, Stop
from vla_rl.specs import VALIDATION_SEEDS

T = TypeVar("T")
REPLAY = "training_state/replay"
"""Where a generation holds the replay, of several processes the first one's; see `own_part`."""
LEAST_ERROR = 1e-3
"""Added to a row's error, so that it stays in play; in units of value."""


@dataclass
class Progress:
    """How far a run has come, through all of its resumptions.

    step: decisions. seconds: that the loop took. owed: updates that are due, with a fraction. due: what was done when.
    """

    step: int = 0
    seconds: float = 0.0
    owed: float = 0.0
    due: Schedule = field(default_factory=lambda: Schedule(0))

    def state_dict(self) -> dict[str, Any]:
        """All but the step, which the generation tells."""
        return {"seconds": self.seconds, "owed": self.owed, "due": self.due.state_dict()}

    def load_state_dict(self, step: int, state: dict[str, Any] | None) -> None:
        """Go on from `step`, of which a run saved `state`; one of an older version saved none."""
        self.step, self.due = step, Schedule(step)
        if state is not None:
            self.seconds, self.owed = state["seconds"], state["owed"]
            self.due.load_state_dict(state["due"])


@dataclass
class TrainState:
    """Everything that a run is made of. critic_health: how acting by the critic does, in words; "" if nobody knows.
    warned: the warnings that a person was told."""

    run: RunConfig
    learner: Learner
    policy: Policy
    algorithm: Algorithm
    collector: Collector
    replay: ReplayBuffer
    demos: ReplayBuffer
    spec: EnvSpec
    cache: feature_cache.CacheChoice
    backbone: str
    own: Own
    evaluator: Evaluator
    acting: ActingStatistics
    rng: np.random.Generator
    critic_health: str = ""
    warned: set[str] = field(default_factory=set)
    progress: Progress = field(default_factory=Progress)
    failure: Exception | None = None

    def close(self) -> None:
        """End all environments, and what the tracker is told."""
        self.collector.close()
        self.evaluator.close()
        self.learner.close()

    @property
    def needs(self) -> Needs:
        """What the algorithm asks of the run."""
        return self.run.algorithm.needs

    def batch(self) -> Batch:
        """A batch by shares: demonstrations and own experience."""
        needs = self.needs
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
            images=not (self.policy.frozen_trunk and self.cache.cached),
            own=self.own,
        )

    def ready(self) -> bool:
        """Whether there is something to learn from, in every process."""
        own = any(buffer.can_sample(self.needs.finished_only) for buffer in (self.replay, self.demos))
        return self.learner.total(own)[0] == self.learner.processes

    def explore(self, observation: dict[str, Any]) -> Decision:
        """What the environments whose turn it is are to do."""
        return self.algorithm.explore(observation, self.collector.turn)

    def learn(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Update from a batch; where rows are drawn by priority, those of this one get theirs."""
        metrics = self.algorithm.update(batch)
        if self.own.by == "priority":
            # With another goal, a row errs otherwise than it does with its own.
            own = ~batch.demo & ~batch.relabelled
            error = self.algorithm.priorities().double().cpu().numpy()[own]
            self.replay.prioritise(batch.index[own], (error + LEAST_ERROR) ** self.run.replay.priority)
        return metrics


def make(run: RunConfig, folder: Path, given: VectorEnv | None = None) -> TrainState:
    """Build every part of the run, once; its tracker writes into `folder`. given: to act in, see `taking`."""
    taken = None if given is None else given_spec(given, run.action_space, run.plugins)
    run = build.with_gamma(run, taken)
    checkpoint.seed_all(run.seed)  # What is built is the same in all processes,
    spec = taken or build.env_spec(run, held=True)
    learner = build.learner(run, folder)
    shown = build.demonstrations(run, spec)
    policy = learner.prepare(start_policy(run, spec, shown))
    seen = feature_cache.any_observation(policy, spec.observation, run.train.num_envs)
    backbone = tune(policy, run.policy.precision, run.policy.compile, seen)
    if run.algorithm.needs.reference and run.train.checkpoint is None:
        raise ConfigError("algorithm.kl_weight, kl_budget, held_budget: need train.checkpoint, to stay close to it")
    parts = build.algorithm_parts(run, spec, policy)
    with taking_memory("algorithm"):
        algorithm = run.algorithm.build(policy=policy, learner=learner, **parts)
    cache = feature_cache.choose(run, spec.observation, policy)
    replay = build.replay(
        run,
        spec,
        policy,
        run.replay.capacity,
        run.train.num_envs,
        folder=folder / "replay" / str(learner.rank),
        cached=cache.cached,
    )
    demos = build.demo_replay(run, spec, policy, shown, cache.cached)
    build.check_returns(run, spec, demos)
    workers = spare_cores(learner.processes) if run.train.workers == "auto" else run.train.workers
    dealt = lanes(build.env_factories(run, spec, past=past(run, learner, folder)), run.train.num_envs)
    seeds, spare = lane_seeds(run.seed, run.train.num_envs, learner, folder)
    limits = workers, run.train.step_timeout, run.train.restarts, spare
    making = [lane.make for lane in dealt]
    envs = GivenEnvs(given, spec.tokens) if given else VectorEnvs(making, len(making), *limits)
    replay.listen(acting := ActingStatistics(len(run.envs)))
    if run.algorithm.needs.listens:
        replay.listen(cast("Listens", algorithm).listener)
    rng = checkpoint.seed_all(run.seed, learner.rank)  # what then is drawn is each one's own.
    return TrainState(
        run=run,
        learner=learner,
        policy=policy,
        algorithm=algorithm,
        collector=Collector(envs, replay, seeds, groups=run.train.groups, tasks=[lane.task for lane in dealt]),
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
        rng=rng,
    )


def past(run: RunConfig, learner: Learner, folder: Path) -> Past:
    """The run's episodes up to its checkpoint, from which environments go on whose world shifts in mid-run."""
    generation = checkpoint.last(folder)
    try:
        episodes = checkpoint.load_entry(generation / "training_state", "episodes") if generation else 0
    except ValueError:  # damaged, so that the run will go on from an older one
        whole = checkpoint.latest(folder)
        episodes = checkpoint.load_entry(whole.folder / "training_state", "episodes") if whole else 0
    return Past(learner.processes * episodes, learner.processes * run.train.num_envs)


def start_policy(run: RunConfig, spec: EnvSpec, tasks: Sequence[Demonstrations]) -> Policy:
    """The policy of `train.checkpoint`, or a fresh one.

    Raises:
        ConfigError: the checkpoint's policy does not fit the run's observations or actions, or has adapters that the
            run does not want.
    """
    if run.train.checkpoint is None:
        return build.fresh_policy(run, spec, tasks)
    policy = Policy.from_pretrained(checkpoint.policy_folder(run.train.checkpoint), plugins=run.plugins)
    policy.check_fits(spec.tokens, spec.observation.images, spec.observation.state)
    wanted = run.policy.settings(run.plugins, run.replay.stack)
    try:
        policy.set_trainable(wanted.train, wanted.lora)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return policy


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


def save(folder: Path, step: int, state: TrainState) -> Path:
    """One generation: the policy, and all that a resumed run needs, with the experience of each process."""
    own, learner = own_part(state.learner.rank), state.learner

    def training_state(target: Path) -> None:
        saved: dict[str, Any] = {
            "rng": checkpoint.rng_state(state.rng),
            "episodes": state.collector.episodes,
            "invalid_episodes": state.collector.invalid_episodes,
        }
        if learner.rank == 0:
            saved |= {
                "algorithm": state.algorithm.state_dict(),
                "critic_health": state.critic_health,
                "settings": registry.describe(state.algorithm.settings, "algorithms"),
                "progress": state.progress.state_dict(),
                "processes": learner.processes,
            }
        checkpoint.save_state(target, saved)
        before = checkpoint.last(folder)
        state.replay.save(target / "replay", previous=[before / own / "replay"] if before else [])

    parts: dict[str, Callable[[Path], object]] = {own: training_state}
    if learner.rank == 0:
        parts["pretrained_model"] = state.policy.save_pretrained
    return checkpoint.save(folder, step, parts, keep=state.run.train.keep, agree=learner.agree)


def own_part(rank: int) -> str:
    """The part of a generation that is a process's own; the first one's also holds what all have in common."""
    return "training_state" if rank == 0 else f"training_state_{rank}"


def restore(folder: Path, state: TrainState) -> int:
    """Load the newest whole generation of the run, where there is one; returns its step.

    Environments cannot continue in mid-episode, so the episodes that were running are left as they stand. Each of
    several processes goes on with its own replay and generators.

    Raises:
        ConfigError: the run was saved by more or fewer processes, each with a replay of its own.
    """
    generation = checkpoint.latest(folder)
    if generation is None:
        return 0
    saved = checkpoint.load_state(generation.folder / "training_state")
    processes, learner = saved.get("processes", 1), state.learner
    if processes != learner.processes:
        raise ConfigError(
            f"resume: {generation.folder} is of a run in {processes} process(es), each with a replay of its own; start "
            f"{processes}, not {learner.processes}"
        )
    part = generation.folder / own_part(learner.rank)
    own = saved if learner.rank == 0 else checkpoint.load_state(part)
    state.policy.load_pretrained(generation.folder / "pretrained_model")
    state.algorithm.load_state_dict(saved["algorithm"])
    checkpoint.set_rng_state(own["rng"], state.rng)
    encode_anew(state)  # nothing to do, unless the backbone is another one by now
    ground = build.grounding(state.policy)
    if state.replay.load(part / "replay", ground, generation.damaged):
        print(f"features: {part / 'replay'} holds none of this backbone; made for its {len(state.replay)} rows")
    state.replay.interrupt()
    state.collector.episodes, state.collector.invalid_episodes = own["episodes"], own.get("invalid_episodes", 0)
    state.progress.load_state_dict(generation.step, saved.get("progress"))
    return generation.step


def renew(state: TrainState) -> dict[str, float]:
    """Have critics see as the actor does by now; how many seconds that took. Nothing may be under way."""
    begun = time.monotonic()
    state.policy.renew()
    encode_anew(state)
    return {"time/renew": time.monotonic() - begun}


def encode_anew(state: TrainState) -> None:
    """Make the features that replay and demonstrations cache of what `policy.ground` sees, unless they are that."""
    ground, digest = build.grounding(state.policy), state.policy.digest()
    for buffer in (state.replay, state.demos):
        buffer.renew(ground, digest)


def together(state: TrainState, work: Callable[[], T]) -> T:
    """What `work` gives, once it is known that it went well in all processes of the run.

    Raises:
        Whatever it raised, in the process concerned; RuntimeError in the others.
    """
    result: T | None = None
    try:
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
