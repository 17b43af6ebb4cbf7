"""What a generation holds of a run: written, and taken up again where the loop was.

    pretrained_model/    the policy
    reference_model/     the one that the actor is tied to, where `algorithm.kl_weight` wants that
    training_state/      all else; of several processes, the others have `training_state_<rank>` beside it
        state.json, state.safetensors   learner, random numbers, counters, schedule, log
        replay/                         rows and frames
        lanes/                          where the environments and their lanes stand

Saving changes nothing of what comes after: decisions that are under way are awaited, and what came of them is saved and
taken in at its turn. So a run that goes on does what it would have done, number by number, where its environments can
tell where they stand; docs/reliability.md says where that is.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vla_rl import build, registry
from vla_rl.autotune.backbone import is_compiled
from vla_rl.config import fixed
from vla_rl.registry import ConfigError
from vla_rl.runtime import checkpoint
from vla_rl.runtime.begun import REFERENCE, STATE
from vla_rl.runtime.generations import POLICY
from vla_rl.train_state import TrainState, agreed, encode_anew

REPLAY, LANES = "replay", "lanes"
"""What lies in a process's own part beside its state."""
Lanes = dict[str, Any]
"""Where the lanes of a process stand; see `Collector.state_dict`."""


def save(folder: Path, step: int, state: TrainState, lanes: Lanes | None = None) -> Path:
    """One generation: the policy, and all that a resumed run needs, with the experience of each process.

    lanes: where they stand, as `Collector.state_dict` tells; None where nobody knows, so that they begin anew.
    """
    own, learner = own_part(state.learner.rank), state.learner
    before = checkpoint.last(folder)
    # What processes have shares of is made whole by all of them, before any writes.
    reference: Any = getattr(state.algorithm, "reference", None)
    weights, common = learner.weights(state.policy), common_state(state)
    start = {} if reference is None else learner.weights(reference)

    def training_state(target: Path) -> None:
        saved = own_state(state)
        if learner.rank == 0:
            saved |= common
        checkpoint.save_state(target, saved)
        if lanes is not None:
            save_lanes(target / LANES, lanes)
        state.replay.save(target / REPLAY, previous=[before / own / REPLAY] if before else [])

    parts: dict[str, Callable[[Path], object]] = {own: training_state}
    if learner.rank == 0:
        parts[POLICY] = lambda target: state.policy.save_pretrained(target, weights)
        if reference is not None:
            parts[REFERENCE] = lambda target: (
                checkpoint.link_part(before, REFERENCE, target) or reference.save_pretrained(target, start)
            )
    return checkpoint.save(folder, step, parts, keep=state.run.train.keep, agree=learner.agree)


def own_part(rank: int) -> str:
    """The part of a generation that is a process's own; the first one's also holds what all have in common."""
    return STATE if rank == 0 else f"{STATE}_{rank}"


def own_state(state: TrainState) -> dict[str, Any]:
    """What each process has for itself."""
    return {
        "rng": checkpoint.rng_state(state.rng),
        "replay": state.replay.state_dict(),
        "log": state.log.state_dict(),
        "episodes": state.collector.episodes,
        "invalid_episodes": state.collector.counts.invalid_episodes,
    }


def common_state(state: TrainState) -> dict[str, Any]:
    """What all processes have in common."""
    backbone = state.policy.trunk.backbone
    return {
        "algorithm": state.algorithm.state_dict(),
        "critic_health": state.critic_health,
        "settings": registry.describe(state.algorithm.settings, "algorithms"),
        "config": fixed.told(state.run),
        "progress": state.progress.state_dict(),
        "processes": state.learner.processes,
        "device": state.learner.device.type,
        "precision": str(backbone.model.dtype).removeprefix("torch."),
        "compiled": is_compiled(backbone),
        "cached": state.cache.cached,
    }


def save_lanes(target: Path, lanes: Lanes) -> None:
    """Write where lanes stand; an environment's snapshot that cannot be written is left out, and that is said."""
    kept = []
    for number, snapshot in enumerate(lanes["snapshots"]):
        try:
            checkpoint.check_state(snapshot)
            kept.append(snapshot)
        except TypeError as error:
            warnings.warn(f"environment {number}: its snapshot is not saved: {error}", stacklevel=2)
            kept.append(None)
    checkpoint.save_state(target, {**lanes, "snapshots": kept})


def restore(folder: Path, state: TrainState) -> int:
    """Load the newest whole generation of the run, where there is one; returns its step.

    Each of several processes goes on with its own replay, generators and environments. Where environments cannot go on
    in mid-episode, they begin others, and the episodes that were running are left as they stand.

    Raises:
        ConfigError: the run was saved by more or fewer processes, each with a replay of its own; or its algorithm does
            not fit any more.
    """
    generation = checkpoint.latest(folder)
    if generation is None:
        return 0
    saved = checkpoint.load_state(generation.folder / STATE)
    processes, learner = saved.get("processes", 1), state.learner
    if processes != learner.processes:
        raise ConfigError(
            f"resume: {generation.folder} is of a run in {processes} process(es), each with a replay of its own; start "
            f"{processes}, not {learner.processes}, or a run of its own from this policy, by train.checkpoint={folder} "
            "and another run_dir"
        )
    part = generation.folder / own_part(learner.rank)
    own = saved if learner.rank == 0 else checkpoint.load_state(part)
    state.policy.load_pretrained(generation.folder / POLICY)
    load_algorithm(state, saved, generation.folder)
    encode_anew(state)  # nothing to do, unless the backbone is another one by now
    ground = build.grounding(state.policy)
    with learner.at_own_pace():
        made_anew = state.replay.load(part / REPLAY, ground, own.get("replay"), generation.damaged)
    if made_anew:
        print(f"features: {part / REPLAY} holds none of this backbone; made for its {len(state.replay)} rows")
    if "log" in own:  # which older versions did not save
        state.log.load_state_dict(own["log"])
    counts = state.collector.counts
    counts.episodes, counts.invalid_episodes = own["episodes"], own.get("invalid_episodes", 0)
    state.critic_health = saved.get("critic_health", "")
    state.progress.load_state_dict(generation.step, saved.get("progress"))
    made = 0
    if generation.damaged:  # and with it, perhaps, episodes that are under way
        state.replay.interrupt()
    else:
        made = go_on(part / LANES, state)
    state.progress.step += agreed(learner, made)[0]
    checkpoint.set_rng_state(own["rng"], state.rng)  # at last: nothing of the above shall draw from them
    return generation.step


def load_algorithm(state: TrainState, saved: Mapping[str, Any], where: Path) -> None:
    """Have the algorithm go on. Raises ConfigError where its networks are others by now, and names the keys."""
    try:
        state.algorithm.load_state_dict(saved["algorithm"])
    except (RuntimeError, ValueError, KeyError) as error:
        differs = fixed.differing(saved["config"], state.run, "algorithm") if "config" in saved else ""
        if not differs:
            raise
        raise ConfigError(
            f"{differs}: what {where} holds does not fit that; leave it as it was, or start a run of its own from this "
            "policy, by train.checkpoint and another run_dir"
        ) from error


def go_on(folder: Path, state: TrainState) -> int:
    """Have lanes go on from what a generation tells of them; how many transitions that made.

    Those that cannot begin other episodes, which is said.
    """
    try:
        made, reasons = state.collector.load_state_dict(checkpoint.load_state(folder), state.log)
    except (ValueError, KeyError, TypeError) as error:
        state.replay.interrupt()
        if folder.is_dir():
            warnings.warn(f"{folder}: {error}; all environments begin new episodes", stacklevel=2)
        return 0
    for reason in dict.fromkeys(reasons.values()):
        some = ", ".join(str(lane) for lane in sorted(reasons) if reasons[lane] == reason)
        print(f"environments {some} begin new episodes: {reason}")
    return made
