"""THE loop: act, remember, learn; evaluate and save on schedule."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from gymnasium.vector import VectorEnv

from vla_rl import Verb, build, config
from vla_rl.cockpit.training import attach
from vla_rl.config import RunConfig
from vla_rl.envs.given import taking
from vla_rl.replay import Prefetcher
from vla_rl.resume import Lanes, restore, save
from vla_rl.runtime import reserve
from vla_rl.runtime.callbacks import Callback, Callbacks, Moment
from vla_rl.runtime.lane_seeds import count_lanes
from vla_rl.runtime.logger import cut
from vla_rl.runtime.run_folder import starting
from vla_rl.runtime.signals import INTERRUPTED, Interrupted, Stop
from vla_rl.train_state import TrainState, agreed, check_critic, make, renew, together, validate

__all__ = ["INTERRUPTED", "train"]


def train(
    run: RunConfig | str, *overrides: str, callbacks: Sequence[Callback] = (), envs: VectorEnv | None = None
) -> Path:
    """Fine-tune a policy from its own outcomes; returns the folder of the last checkpoint.

    What ends the loop early leaves a checkpoint, too. In the main thread SIGTERM and Ctrl-C are heard meanwhile.

    Args:
        run: a config, or the first of the overrides, as on the command line: `train("experiment=reach", "seed=3")`.
        callbacks: hear of steps, episodes and validations, and may end the training.
        envs: vector environments of your own to act in, as they are, in place of the config's `env`; you close them.

    Raises:
        ConfigError: parts that do not fit one another.
        FaultError: all episodes were invalid.
        SystemExit: code `INTERRUPTED` after SIGTERM or Ctrl-C, with a checkpoint written.
    """
    run = config.given(run, overrides, "train")
    run = run if envs is None else taking(run, envs)
    with ExitStack() as parts:
        with starting(run) as folder:
            state = parts.enter_context(closing(make(run, folder, envs)))
            begin = restore(folder, state)
            state.learner.track(begin, build.settings(run))
        stop = parts.enter_context(Stop())
        if state.learner.rank == 0:
            print(f"run: {folder}")
            state.run.save(folder)  # with what was worked out, for resuming and evaluation
            describe(state)
            if run.algorithm.needs.gamma is None:
                gamma = state.replay.gamma
                print(f"algorithm.gamma: {gamma:g}; a demonstration takes {1 / (1 - gamma):.3g} decisions (median)")
            cut(folder, begin, state.log.lines)
            count_lanes(folder, state.learner.processes, run.train.num_envs)
            if envs is None and run.distributed is None:  # else nobody can take over one of them
                parts.enter_context(closing(attach(folder, state)))
        told = Callbacks(callbacks if state.learner.rank == 0 else (), partial(moment, folder, state))
        state.replay.listen(told)
        try:
            with state.log:
                stopped, lanes = loop(folder, state, stop, told)
        except BaseException as error:
            with stop.held():
                kept = state.progress.step == begin or rescue(folder, state, error)
                stop.over()
            if not (kept and isinstance(error, Interrupted)):
                raise
            stop.end(f"at step {state.progress.step}; `resume=true run_dir={folder}` goes on")
        with stop.held():
            last = finish(folder, state, lanes)
            stop.over()
        state.collector.check(over=not stopped)
    if state.learner.rank == 0:
        print(state.log.describe())
        print(f"checkpoint: {last}; `vla-rl eval eval.checkpoint={folder}` measures it")
    if stopped:
        stop.end(f"at step {state.progress.step}; `resume=true run_dir={folder}` goes on")
    return last


def loop(folder: Path, state: TrainState, stop: Stop, told: Callbacks) -> tuple[bool, Lanes]:
    """Act, remember, learn, until the run is over or told to stop; whether it was, and where its lanes stand then."""
    settings, progress = state.run.train, state.progress
    limit = 60 * settings.minutes if settings.minutes else float("inf")
    begun, elapsed, stopped = time.monotonic() - progress.seconds, progress.seconds / limit, False
    # A batch by priority is drawn once the one before has changed the priorities.
    ahead = 0 if state.run.replay.prioritised else state.run.replay.prefetch
    with closing(Prefetcher(state.batch, ahead)) as prefetcher:
        while True:
            stopped = stopped or not (progress.attended or attend(folder, state, stop, told))
            if stopped or progress.step >= settings.steps or elapsed >= 1.0:
                break
            progress.attended = False
            made = together(state, partial(state.collector.step, state.explore, state.log))
            progress.seconds = time.monotonic() - begun
            elapsed = max(progress.seconds / limit, told.enough)
            made, elapsed, stopped = agreed(state.learner, made, elapsed, stop.asked)
            progress.step, progress.owed = progress.step + made, progress.owed + made * settings.updates_per_step
            if progress.step < settings.learning_starts or not state.ready():
                progress.owed = 0.0
            state.algorithm.anneal(min(max(progress.step / settings.steps, elapsed), 1.0))
            state.followed_up(made)
            with state.log.timed("learn"):
                for batch in prefetcher.batches(int(progress.owed)):
                    state.log.update(state.learn(batch))
            progress.owed -= int(progress.owed)
            state.log.progress(progress.step, f"success {100 * state.collector.success_rate:.0f}%", progress.seconds)
            told.on_step()
        if not stopped:  # else what is gathered for the log goes on with the run
            progress.step += settled(state)
            state.log.write(progress.step, statistics(state))
            warn(state)
            say(state)
    return stopped, standing(state)


def attend(folder: Path, state: TrainState, stop: Stop, told: Callbacks) -> bool:
    """Do what is due at the present step; False where the run was told to stop in the middle of it."""
    settings, progress, log, due = state.run.train, state.progress, state.log, state.progress.due
    if due.now("log", progress.step, settings.log_every):
        log.write(progress.step, statistics(state))
        warn(state)
    if due.now("eval", progress.step, settings.eval_every):
        found = validate(state, stop)
        if found is None:  # and the run that goes on does it again
            due.put_off("eval", progress.step, settings.eval_every)
            return False
        log.write(progress.step, found | check_critic(state))
        say(state)
        told.on_eval(found)
    if due.now("renew", progress.step, settings.renew_every):
        progress.step += settled(state)
        log.write(progress.step, renew(state))
    progress.attended = True
    if due.now("save", progress.step, settings.save_every):
        lanes = standing(state)
        with stop.held():
            saved = save(folder, progress.step, state, lanes)
            if state.learner.rank == 0:
                reserve.hold(folder, saved)
    return True


def moment(folder: Path, state: TrainState) -> Moment:
    """Where the training is, for callbacks."""
    return Moment(state.progress.step, state.collector.success_rate, folder, state.run, state.policy)


def say(state: TrainState) -> None:
    """Say how acting by the critic does, where that is known."""
    if state.learner.rank == 0 and state.critic_health:
        print(f"step {state.progress.step}: {state.critic_health}")


def warn(state: TrainState) -> None:
    """Say once what those who hear of episodes want a person to know."""
    for sentence in state.replay.said:
        if sentence not in state.warned:
            state.warned.add(sentence)
            print(f"step {state.progress.step}: {sentence}")


def statistics(state: TrainState) -> dict[str, float]:
    """What the log shows beside means of metrics."""
    skipped = {"train/skipped_steps": float(state.learner.skipped)}
    return state.collector.statistics() | skipped | check_critic(state)


def settled(state: TrainState) -> int:
    """Take in what is under way; how many decisions that makes."""
    return agreed(state.learner, together(state, partial(state.collector.settle, state.log)))[0]


def standing(state: TrainState) -> Lanes:
    """Where the lanes stand, once what they are at has come to its end."""
    return together(state, partial(state.collector.state_dict, state.log))


def rescue(folder: Path, state: TrainState, error: BaseException) -> bool:
    """Write a checkpoint of what was done until `error`, which remains what the user is told of; whether there is one.

    The episodes under way go on with the run if it was the disk that failed; else they end there. Several processes
    write it together, and so only where all of them know.
    """
    if state.learner.processes > 1 and error is not state.failure:
        return False
    try:
        lanes = standing(state) if isinstance(error, OSError) and error is not state.failure else None
        if lanes is None:
            state.replay.interrupt()
        finish(folder, state, lanes)
    except Exception as problem:
        error.add_note(f"nor could a checkpoint be written: {problem}")
        return False
    error.add_note(f"a checkpoint of step {state.progress.step} is written; `resume=true run_dir={folder}` goes on")
    return True


def finish(folder: Path, state: TrainState, lanes: Lanes | None = None) -> Path:
    """Write the last checkpoint, in the room that was held for it where there is no other."""
    try:
        return save(folder, state.progress.step, state, lanes)
    except OSError:
        # Of several processes, the others could not know.
        if state.learner.processes > 1 or not reserve.release(folder):
            raise
        return save(folder, state.progress.step, state, lanes)
    finally:
        if state.learner.rank == 0:
            reserve.release(folder)


def describe(state: TrainState) -> None:
    """Say what the run is made of."""
    print(state.replay.describe(), state.backbone, state.cache.said, state.collector.describe(), sep="\n")
    if len(state.demos):
        print(f"demonstrations: {state.demos.nbytes / 2**20:.0f} MiB of RAM beside it")


Verb.make(__name__)
