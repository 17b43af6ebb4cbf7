"""The parts of a run, made from its config: here and nowhere else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from vla_rl import envs, registry
from vla_rl.actions import horizon
from vla_rl.algorithms.calls import call_kinds
from vla_rl.algorithms.rehearsal import Rehearsal
from vla_rl.algorithms.tether import HeldFrames
from vla_rl.config import RunConfig
from vla_rl.config.sources import flat
from vla_rl.data import demos, lerobot
from vla_rl.data.demos import Demonstrations
from vla_rl.envs import EnvSpec, ObservationShape, Past
from vla_rl.models import storage
from vla_rl.models.policy import Policy
from vla_rl.registry import ConfigError
from vla_rl.replay import EpisodeListener, Hindsight, Own, Priority, ReplayBuffer
from vla_rl.rewards.credit import CreditBook
from vla_rl.runtime import checkpoint
from vla_rl.runtime.begun import Begun
from vla_rl.runtime.hardware import host_memory
from vla_rl.runtime.heeded import heed
from vla_rl.runtime.learner import Learner
from vla_rl.runtime.memory import taking_memory
from vla_rl.specs import POLICY_VERSION, SIGNALS, PictureSource, Signal


def env_factory(
    run: RunConfig, spec: EnvSpec, render_mode: str | None = None, past: Past | None = None, failed_starts: float = 0.0
) -> partial[gymnasium.Env]:
    """A picklable maker of the run's only, or first, environment, which takes decisions.

    failed_starts: how many of its episodes begin where a failed one stood, as a share.
    """
    made = envs.factory(run, render_mode, past)
    return envs.token_factory(envs.with_failed_starts(made, failed_starts) if failed_starts else made, spec.tokens)


def env_factories(
    run: RunConfig,
    spec: EnvSpec,
    render_mode: str | None = None,
    past: Past | None = None,
    held: bool = False,
    failed_starts: float = 0.0,
) -> dict[str, partial[gymnasium.Env]]:
    """A maker of each of the run's environments, by name; where asked, also of those that it holds."""
    each = (*run.each(), *(run.held() if held else ()))
    return {one.env.name: env_factory(one, spec, render_mode, past, failed_starts) for one in each}


def with_gamma(run: RunConfig, spec: EnvSpec | None = None) -> RunConfig:
    """The run with a number for `algorithm.gamma` where that is "auto"; else as it is.

    A reward at the end of the typical demonstration counts 1 / e at its beginning: gamma = 1 - 1 / T, where T is the
    median of the demonstrations' decisions (a chunk is one), which a few that wandered do not move. Of several tasks,
    the longest one's: its beginning has to see its end, too.

    Raises:
        ConfigError: there are no demonstrations.
    """
    if run.algorithm.needs.gamma is not None:
        return run
    spec = env_spec(run) if spec is None else spec
    shown = [episodes for episodes in demonstrations(run, spec) if len(episodes)]
    if not shown:
        raise ConfigError(
            "algorithm.gamma: auto is worked out from the length of demonstrations, and demos.episodes is 0; record "
            "some, or give a number in [0, 1], such as 0.97"
        )
    stride = horizon(spec.tokens)
    length = max(float(np.median([-(-len(each) // stride) for each in episodes])) for episodes in shown)
    algorithm = dataclasses.replace(run.algorithm, gamma=round(1 - 1 / max(length, 2.0), 6))
    return run.model_copy(update={"algorithm": algorithm})


def with_fitted_tokens(run: RunConfig, spec: EnvSpec | None = None) -> RunConfig:
    """The run; an action space to be fitted is that of the policy it starts from, or fits the demonstrations."""
    if getattr(run.action_space, "fitted", True):
        return run
    spec, start = env_spec(run) if spec is None else spec, run.train.checkpoint
    own = None if start is None else storage.action_space(checkpoint.policy_folder(start), run.plugins)
    shown = chain.from_iterable(demonstrations(run, spec))
    return run.model_copy(update={"action_space": demos.fitted(spec.tokens, shown, own)})


def with_tokens_of(run: RunConfig, policy: Policy) -> RunConfig:
    """The run, in which a policy acts; an action space to be fitted is the policy's, where that once was such a one."""
    if getattr(run.action_space, "fitted", True) or not demos.fitted_from(policy.action_space, env_spec(run).tokens):
        return run
    return run.model_copy(update={"action_space": policy.action_space})


def env_spec(run: RunConfig, held: bool = False) -> EnvSpec:
    """Look at each environment of the run once; where asked, also at those that it holds.

    Raises:
        ConfigError: its observations or actions do not suit the config, or those of several are not alike.
    """
    return envs.joint({one.env.name: _env_spec(one) for one in (*run.each(), *(run.held() if held else ()))})


def _env_spec(run: RunConfig) -> EnvSpec:
    env = envs.factory(run)()
    try:
        tokens = envs.bind_tokens(run.action_space, env.action_space, run.plugins)
        needs = run.algorithm.needs
        limited = needs.truncation != "bootstrap"
        returns = envs.possible_returns(env, discount(run), horizon(tokens), limited)
        return EnvSpec(
            observation=ObservationShape.of(env.observation_space),
            actions=env.action_space,
            tokens=tokens,
            marks=envs.marks(env),
            returns=returns,
            shifts=envs.shifts(env),
        )
    except ValueError as error:
        raise error if isinstance(error, ConfigError) else ConfigError(f"env {run.env.id}: {error}") from error
    finally:
        env.close()


def discount(run: RunConfig) -> float:
    """Of one decision; 1 where the number is yet to be worked out, in a command that trains nothing by it."""
    gamma = run.algorithm.needs.gamma
    return 1.0 if gamma is None else gamma


def settings(run: RunConfig) -> dict[str, Any]:
    """The whole config by dotted key, as trackers are told it."""
    return flat(run.model_dump(mode="json"))


def learner(run: RunConfig, folder: Path | None = None) -> Learner:
    """Device, precision and processes; with the folder of a run, its tracker too."""
    make = partial(
        Learner,
        sharding=run.sharding,
        tf32=run.tf32,
        cuda_graphs=run.cuda_graphs,
        micro_batch_size=run.micro_batch_size,
        gradient_checkpointing=run.gradient_checkpointing,
        optimizer=run.optimizer,
    )
    return make(run.device, run.mixed_precision, run.seed, tracker=run.tracker if folder else None, folder=folder)


def fresh_policy(run: RunConfig, spec: EnvSpec) -> Policy:
    """A policy of the config, its head untrained; `data.normalise` then shows it demonstrations."""
    return Policy.build(
        run.policy.settings(run.plugins, run.replay.stack),
        action_space=spec.tokens,
        cameras=spec.observation.images,
        state_dim=spec.observation.state,
        seed=run.seed,
        marks=spec.marks,
    )


def start_policy(run: RunConfig, spec: EnvSpec, begun: Begun | None) -> Policy:
    """The policy that a run goes on with, else that of `train.checkpoint`, or a fresh one.

    Raises:
        ConfigError: the checkpoint's policy does not fit the run's observations or actions, or what the command line
            says of it.
    """
    if begun is not None:
        start = begun.policy
    elif run.train.checkpoint is not None:
        start = checkpoint.policy_folder(run.train.checkpoint)
    else:
        return fresh_policy(run, spec)
    policy = Policy.from_pretrained(start, plugins=run.plugins)
    policy.check_fits(spec.tokens, spec.observation.images, spec.observation.state)
    heed(run, policy)
    return policy


def replay(
    run: RunConfig,
    spec: EnvSpec,
    policy: Policy,
    capacity: int,
    lanes: int,
    folder: Path | None = None,
    cached: bool = True,
    book: CreditBook | None = None,
) -> ReplayBuffer:
    """An empty replay, which also caches the frozen features where `cached`, and credit where there is a `book` of it.

    With a folder it keeps to the run's limits of bytes, and has its own files there.

    Raises:
        ConfigError: the limits are too small.
    """
    limits: dict[str, Any] = {}
    if folder:
        limits = {"ram_bytes": run.replay.ram_bytes, "disk_bytes": run.replay.disk_bytes, "folder": folder}
    try:
        with taking_memory(f"replay: a capacity of {capacity} rows"):
            return ReplayBuffer(
                **replay_rows(run, spec, policy, capacity, lanes, cached),
                digest=policy.digest() if cached else "",
                gamma=discount(run),
                truncation=run.algorithm.needs.truncation,
                listeners=listeners(run, book),
                n_step=run.algorithm.needs.n_step or run.replay.n_step,
                stack=run.replay.stack,
                allocate=host_memory(policy.device),
                **limits,
            )
    except ValueError as error:
        raise ConfigError(f"replay: {error}") from error


def replay_rows(
    run: RunConfig, spec: EnvSpec, policy: Policy, capacity: int, lanes: int, cached: bool
) -> dict[str, Any]:
    """How many rows a replay has, and what they hold: of what `ReplayBuffer` is given, all that decides its size."""
    return {
        "capacity": capacity,
        "images": spec.observation.images,
        "state_dim": spec.observation.state,
        "slots": len(spec.tokens.slots),
        "choices": max(slot.choices for slot in spec.tokens.slots),
        "features": policy.cached_features() if cached else {},
        "lanes": lanes,
        "signals": signals(run),
        "remembered": policy.remembered_shape,
    }


def signals(run: RunConfig) -> tuple[Signal, ...]:
    """What rows of replay hold beside what every algorithm reads: of the environment, the run's own, the algorithm's.

    Raises:
        ConfigError: two of one name.
    """
    version = () if run.distributed is None else (POLICY_VERSION,)
    found = (*SIGNALS, *version, *run.replay.signals, *run.algorithm.needs.columns)
    names = [each.name for each in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ConfigError(f"replay.signals: {twice!r} is one already; call it something else")
    return found


def credit_book(run: RunConfig) -> CreditBook | None:
    """What the run's estimator of credit will know; None where it has none that works something out."""
    needs = run.algorithm.needs
    works = needs.credit is not None and needs.credit.columns
    return needs.credit.book(discount(run), needs.truncation) if works else None


def listeners(run: RunConfig, book: CreditBook | None = None) -> list[EpisodeListener]:
    """What hears of every episode that ends, made anew; what works out credit comes last.

    Raises:
        ConfigError: a column of the name of another one, or of a signal.
    """
    made = [registry.build("listeners", each, run.plugins, "replay.on_episode") for each in run.replay.on_episode]
    made += [book.listener()] if book else []
    names = [signal.name for signal in (*signals(run), *(column for each in made for column in each.columns))]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ConfigError(f"replay.on_episode, algorithm.credit: {twice!r} is a column already")
    return made


def own_experience(run: RunConfig, spec: EnvSpec) -> Own:
    """How the run's own experience is drawn.

    Raises:
        ConfigError: goals in hindsight do not suit the other settings.
    """
    settings = run.replay
    hindsight = None
    if settings.hindsight is not None:
        goals = registry.build("goals", settings.hindsight, run.plugins, "replay.hindsight")
        if run.algorithm.needs.following is not True:
            raise ConfigError(
                "replay.hindsight: what would have followed another goal was not observed, and the algorithm learns "
                "from observed returns alone; lower algorithm.mc_weight, or take another algorithm"
            )
        if run.algorithm.needs.going_on > 0:
            raise ConfigError("replay.hindsight: algorithm.credit draws how far a row looks ahead; take {type: n_step}")
        try:
            goals.check(spec.observation.state, run.algorithm.needs.n_step or settings.n_step)
        except ValueError as error:
            raise ConfigError(f"replay.hindsight: {error}") from error
        hindsight = Hindsight(goals, goals.share, goals.horizon)
    by: Priority = "priority" if settings.prioritised else "uniform"
    return Own(settings.success_share, by, settings.correction, hindsight)


def rehearsal(run: RunConfig, policy: Policy) -> Rehearsal | None:
    """What holds the trunk to what it can now; None where the run names nothing.

    Raises:
        ConfigError: nothing of the trunk trains.
    """
    if run.train.rehearsal is None:
        return None
    if policy.frozen_trunk:
        raise ConfigError("train.rehearsal: holds a trunk that trains; policy.train=head trains none, lora and all do")
    source: PictureSource = registry.build("rehearsals", run.train.rehearsal, run.plugins, "train.rehearsal")
    return Rehearsal(policy, source.draw(run.seed), run.train.rehearsal_rows)


def held_frames(run: RunConfig, spec: EnvSpec, policy: Policy) -> HeldFrames | None:
    """What is seen in demonstrations of the tasks that the run holds; None where the algorithm wants nothing of them.

    Raises:
        ConfigError: a held task has no demonstrations.
    """
    if not run.algorithm.needs.held:
        return None
    shown = tuple(_demonstrations(one, spec) for one in run.held())
    none = next((one for one, each in zip(run.held(), shown, strict=True) if not len(each)), None)
    if none is not None:
        raise ConfigError(f"algorithm.held_budget: there are no demonstrations of {none.env.name}; demos.episodes is 0")
    return HeldFrames(demo_replay(run, spec, policy, shown, cached=policy.frozen_trunk), policy)


def algorithm_parts(run: RunConfig, spec: EnvSpec, policy: Policy) -> dict[str, Any]:
    """What an algorithm is built with, beside policy, learner and reference, where the run asks for it: a rehearsal,
    held frames and which kinds of commands are calls."""
    held, kinds = held_frames(run, spec, policy), call_kinds(run, spec)
    asked = {"rehearsal": rehearsal(run, policy), "held": held, "calls": kinds}
    return {name: part for name, part in asked.items() if part is not None}


def grounding(policy: Policy) -> Callable[[dict[str, Any]], dict[str, np.ndarray]]:
    """What makes the features that replay caches of a batched observation."""
    return lambda seen: policy.ground(seen).pack()


def demonstrations(run: RunConfig, spec: EnvSpec) -> tuple[Demonstrations, ...]:
    """Those of each environment, checked to hold the run's observations; none where the run wants none."""
    return tuple(_demonstrations(one, spec) for one in run.each())


def _demonstrations(run: RunConfig, spec: EnvSpec) -> Demonstrations:
    if run.demos.episodes == 0:
        return Demonstrations((), spec.observation)
    if not run.demos.folder.exists():
        raise ConfigError(
            f"demos.path: {run.demos.folder} does not exist; run `vla-rl demos ...` with the same settings first, or "
            "set demos.episodes=0 to train from reward alone"
        )
    if lerobot.is_dataset(run.demos.folder):
        return lerobot.load(run.demos.folder, spec.observation, spec.actions)
    return demos.load(run.demos.folder, spec.observation)


def demo_replay(
    run: RunConfig,
    spec: EnvSpec,
    policy: Policy,
    tasks: Sequence[Demonstrations],
    cached: bool = True,
    book: CreditBook | None = None,
) -> ReplayBuffer:
    """Demonstrations of each task as decisions, in a replay of their own."""
    rows = max(sum(each.steps + len(each) for each in tasks), run.replay.stack + 1)
    buffer = replay(run, spec, policy, capacity=rows, lanes=1, cached=cached, book=book)
    wanted = cached or policy.settings.remembers
    ground = (lambda seen: policy.ground_episode(seen).pack()) if wanted else None
    for task, episodes in enumerate(tasks):
        demos.fill(buffer, episodes, spec.tokens, ground, actions=spec.actions, task=task)
    return buffer
