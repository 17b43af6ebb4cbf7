"""THE loop: act, remember, learn; evaluate and save on schedule."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from vla_rl.config import RunConfig
from vla_rl.replay import Feed
from vla_rl.runtime import checkpoint
from vla_rl.runtime.logger import Log, cut
from vla_rl.runtime.signals import Stop
from vla_rl.train_state import World, agreed, count_lanes, make_world, restore, save, together, validate

INTERRUPTED = 143
"""Exit code after SIGTERM (128 + 15): a checkpoint was written, and `resume=true` goes on from it."""


def train(run: RunConfig) -> Path:
    """Fine-tune a policy from its own outcomes; returns the folder of the last checkpoint.

    What ends the loop early leaves a checkpoint, too. In the main thread SIGTERM and Ctrl-C are heard meanwhile.

    Raises:
        ConfigError: parts that do not fit one another.
        SystemExit: code `INTERRUPTED` after SIGTERM or Ctrl-C, with a checkpoint written.
    """
    with ExitStack() as parts:
        with checkpoint.starting(run) as folder:
            world = parts.enter_context(closing(make_world(run, folder)))
            begin = restore(folder, world)
            world.learner.track(begin)
        stop = parts.enter_context(Stop())
        if world.learner.rank == 0:
            describe(world)
            cut(folder, begin)
            count_lanes(folder, world)
        log = Log(folder, world.learner.accelerator, run.train.steps, run.env.id, world.learner.rank == 0)
        try:
            with log:
                stopped = loop(folder, world, log, stop)
        except Exception as error:
            if world.progress.step > begin:
                rescue(folder, world, error)
            raise
        last = save(folder, world.progress.step, world)
    if world.learner.rank == 0:
        print(log.describe())
    if stopped:
        print(f"interrupted at step {world.progress.step}; `resume=true run_dir={folder}` goes on", file=sys.stderr)
        raise SystemExit(INTERRUPTED)
    return last


def loop(folder: Path, world: World, log: Log, stop: Stop) -> bool:
    """Act, remember, learn, until the run is over or told to stop; whether it was."""
    settings, progress, due = world.run.train, world.progress, world.progress.due
    limit = 60 * settings.minutes if settings.minutes else float("inf")
    begun, elapsed, stopped = time.monotonic() - progress.seconds, progress.seconds / limit, False
    # A batch by priority is drawn once the one before has changed the priorities.
    with closing(Feed(world.batch, 0 if world.run.replay.prioritised else world.run.replay.prefetch)) as feed:
        while progress.step < settings.steps and elapsed < 1.0 and not stopped:
            made = together(world, partial(world.collector.step, world.explore, log))
            progress.seconds = time.monotonic() - begun
            made, elapsed, stopped = agreed(world.learner, made, progress.seconds / limit, stop.asked)
            progress.step, progress.owed = progress.step + made, progress.owed + made * settings.updates_per_step
            if progress.step < settings.learning_starts or not world.ready():
                progress.owed = 0.0
            world.algorithm.anneal(min(max(progress.step / settings.steps, elapsed), 1.0))
            with log.timed("learn"):
                for batch in feed.batches(int(progress.owed)):
                    log.update(world.learn(batch))
            progress.owed -= int(progress.owed)
            log.progress(progress.step, f"success {100 * world.collector.success_rate:.0f}%")
            if due.now("log", progress.step, settings.log_every):
                log.write(progress.step, world.collector.statistics())
            if due.now("eval", progress.step, settings.eval_every):
                log.write(progress.step, validate(world))
            if due.now("save", progress.step, settings.save_every):
                progress.step += settled(world, log)
                save(folder, progress.step, world)
        progress.step += settled(world, log)
        log.write(progress.step, world.collector.statistics())
    return stopped


def settled(world: World, log: Log) -> int:
    """Take in what is under way; how many decisions that makes."""
    return agreed(world.learner, together(world, partial(world.collector.settle, log)))[0]


def rescue(folder: Path, world: World, error: Exception) -> None:
    """Write a checkpoint of what was done until `error`, which remains what the user is told of.

    The episodes under way end as on resume. Several processes write it together, and so only where all of them know.
    """
    if world.learner.processes > 1 and error is not world.failure:
        return
    try:
        world.replay.interrupt()
        save(folder, world.progress.step, world)
    except Exception as problem:
        error.add_note(f"nor could a checkpoint be written: {problem}")
    else:
        error.add_note(f"a checkpoint of step {world.progress.step} is written; `resume=true run_dir={folder}` goes on")


def describe(world: World) -> None:
    """Say what the run is made of."""
    print(world.replay.describe())
    print(world.backbone)
    print(world.cache.said)
    print(world.collector.envs.describe())
    if len(world.demos):
        print(f"demonstrations: {world.demos.nbytes / 2**20:.0f} MiB of RAM beside it")
