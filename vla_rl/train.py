"""THE loop: act, remember, learn; evaluate and save on schedule."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from vla_rl import build
from vla_rl.cockpit.training import attach
from vla_rl.config import RunConfig
from vla_rl.replay import Prefetcher
from vla_rl.resume import Lanes, restore, save
from vla_rl.runtime.lane_seeds import count_lanes
from vla_rl.runtime.logger import cut
from vla_rl.runtime.run_folder import starting
from vla_rl.runtime.signals import INTERRUPTED, Interrupted, Stop
from vla_rl.train_state import TrainState, agreed, check_critic, make, renew, together, validate

__all__ = ["INTERRUPTED", "train"]


def train(run: RunConfig) -> Path:
    """Fine-tune a policy from its own outcomes; returns the folder of the last checkpoint.

    What ends the loop early leaves a checkpoint, too. In the main thread SIGTERM and Ctrl-C are heard meanwhile.

    Raises:
        ConfigError: parts that do not fit one another.
        FaultError: all episodes were invalid.
        SystemExit: code `INTERRUPTED` after SIGTERM or Ctrl-C, with a checkpoint written.
    """
    with ExitStack() as parts:
        with starting(run) as folder:
            state = parts.enter_context(closing(make(run, folder)))
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
            parts.enter_context(closing(attach(folder, state)))
        try:
            with state.log:
                stopped, lanes = loop(folder, state, stop)
        except BaseException as error:
            with stop.held():
                kept = state.progress.step == begin or rescue(folder, state, error)
            if not (kept and isinstance(error, Interrupted)):
                raise
            stop.end(f"at step {state.progress.step}; `resume=true run_dir={folder}` goes on")
        with stop.held():
            last = save(folder, state.progress.step, state, lanes)
        state.collector.check(over=not stopped)
    if state.learner.rank == 0:
        print(state.log.describe())
        print(f"checkpoint: {last}; `vla-rl eval eval.checkpoint={folder}` measures it")
    if stopped:
        stop.end(f"at step {state.progress.step}; `resume=true run_dir={folder}` goes on")
    return last


def loop(folder: Path, state: TrainState, stop: Stop) -> tuple[bool, Lanes]:
    """Act, remember, learn, until the run is over or told to stop; whether it was, and where its lanes stand then."""
    settings, progress = state.run.train, state.progress
    limit = 60 * settings.minutes if settings.minutes else float("inf")
    begun, elapsed, stopped = time.monotonic() - progress.seconds, progress.seconds / limit, False
    # A batch by priority is drawn once the one before has changed the priorities.
    ahead = 0 if state.run.replay.prioritised else state.run.replay.prefetch
    with closing(Prefetcher(state.batch, ahead)) as prefetcher:
        while True:
            stopped = stopped or not (progress.attended or attend(folder, state, stop))
            if stopped or progress.step >= settings.steps or elapsed >= 1.0:
                break
            progress.attended = False
            made = together(state, partial(state.collector.step, state.explore, state.log))
            progress.seconds = time.monotonic() - begun
            made, elapsed, stopped = agreed(state.learner, made, progress.seconds / limit, stop.asked)
            progress.step, progress.owed = progress.step + made, progress.owed + made * settings.updates_per_step
            if progress.step < settings.learning_starts or not state.ready():
                progress.owed = 0.0
            state.algorithm.anneal(min(max(progress.step / settings.steps, elapsed), 1.0))
            with state.log.timed("learn"):
                for batch in prefetcher.batches(int(progress.owed)):
                    state.log.update(state.learn(batch))
            progress.owed -= int(progress.owed)
            state.log.progress(progress.step, f"success {100 * state.collector.success_rate:.0f}%", progress.seconds)
        if not stopped:  # else what is gathered for the log goes on with the run
            progress.step += settled(state)
            state.log.write(progress.step, statistics(state))
            warn(state)
            say(state)
    return stopped, standing(state)


def attend(folder: Path, state: TrainState, stop: Stop) -> bool:
    """Do what is due at the present step; False where the run was told to stop in the middle of it."""
    settings, progress, log, due = state.run.train, state.progress, state.log, state.progress.due
    if due.now("log", progress.step, settings.log_every):
        log.write(progress.step, statistics(state))
        warn(state)
    if due.now("eval", progress.step, settings.eval_every):
        told = validate(state, stop)
        if told is None:  # and the run that goes on does it again
            due.put_off("eval", progress.step, settings.eval_every)
            return False
        log.write(progress.step, told | check_critic(state))
        say(state)
    if due.now("renew", progress.step, settings.renew_every):
        progress.step += settled(state)
        log.write(progress.step, renew(state))
    progress.attended = True
    if due.now("save", progress.step, settings.save_every):
        lanes = standing(state)
        with stop.held():
            save(folder, progress.step, state, lanes)
    return True


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

    The episodes under way end as on resume. Several processes write it together, and so only where all of them know.
    """
    if state.learner.processes > 1 and error is not state.failure:
        return False
    try:
        state.replay.interrupt()
        save(folder, state.progress.step, state)
    except Exception as problem:
        error.add_note(f"nor could a checkpoint be written: {problem}")
        return False
    error.add_note(f"a checkpoint of step {state.progress.step} is written; `resume=true run_dir={folder}` goes on")
    return True


def describe(state: TrainState) -> None:
    """Say what the run is made of."""
    print(state.replay.describe(), state.backbone, state.cache.said, state.collector.envs.describe(), sep="\n")
    if len(state.demos):
        print(f"demonstrations: {state.demos.nbytes / 2**20:.0f} MiB of RAM beside it")
