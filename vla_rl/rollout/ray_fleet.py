"""Rollout workers as actors of Ray: where they are placed, how they are asked, and how it is noticed that one is gone.

This is the only file that imports Ray. What travels goes through its object store: weights once to each node, parcels
as the few large arrays that they are.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import time
import traceback
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from vla_rl.config.distributed import RayConfig
from vla_rl.envs.hosts import GRACE
from vla_rl.registry import SetupError
from vla_rl.rollout.remote import Arrival
from vla_rl.rollout.rollout_worker import Assignment, Greeting, RolloutWorker
from vla_rl.rollout.weights import Files

LONG = 60.0
"""Seconds without a place after which a person is told so."""
LONGEST = 300.0
"""Seconds after which a run ends none of whose actors has found one."""


@dataclass
class _Member:
    """An actor. refs: what it was asked for and has not been received yet, in order. since: when it came to be at the
    first of them, in seconds of `time.monotonic`. begun: how often one of this number was. greeted: whether it is
    ready. whole: whether the newest whole policy was sent to it."""

    actor: Any
    begun: int
    refs: deque[Any] = field(default_factory=deque)
    since: float = field(default_factory=time.monotonic)
    greeted: bool = False
    whole: bool = True


class RayFleet:
    """Actors of Ray, by number; see `rollout.remote.Fleet`.

    name: of the run, by which Ray's dashboard shows its parts. timeout: seconds that an actor may take for a parcel;
    None for any.

    Raises:
        SetupError: no cluster can be reached or started.
    """

    def __init__(self, settings: RayConfig, name: str, timeout: float | None) -> None:
        self._settings, self._name, self._timeout = settings, name, timeout
        self._owns = not ray.is_initialized()
        self._dashboard = _connect(settings, name) if self._owns else ""
        self._namespace = f"vla_rl-{name}-{secrets.token_hex(2)}"
        self._group: PlacementGroup | None = None
        self._members: dict[int, _Member] = {}
        self._version = -1
        self._trained: Any = None
        self._whole: Any = None
        self._begun, self._told = time.monotonic(), False

    def publish(self, version: int, trained: np.ndarray | None = None, whole: Files | None = None) -> None:
        """Put the weights into the object store; those before are gone once nobody uses them any more."""
        self._version = version
        self._trained = None if trained is None else ray.put(trained)
        if whole is not None:
            self._whole = ray.put(whole)
            for member in self._members.values():
                member.whole = False

    def begin(self, number: int, given: Assignment) -> None:
        """Start an actor, which waits for a place if there is none."""
        before = self._members.get(number)
        if before is not None:
            _end(before)
        times = 1 if before is None else before.begun + 1
        self._members[number] = member = _Member(self._actor(number, times), times)
        member.refs.append(member.actor.begin.remote(given, self._version, self._whole))

    def ask(self, number: int) -> None:
        """Ask an actor for a parcel by the newest weights."""
        member = self._members[number]
        if not member.refs:
            member.since = time.monotonic()
        whole = None if member.whole else self._whole
        member.refs.append(member.actor.collect.remote(self._version, self._trained, whole))
        member.whole = True

    def receive(self, number: int | None, patience: float) -> Arrival | None:
        """What arrives next; see `Fleet`. An actor that takes too long is ended, and counts as lost.

        Raises:
            SetupError: no actor has found a place for long.
        """
        asked = self._members if number is None else {number: self._members[number]}
        heads = {member.refs[0]: each for each, member in asked.items() if member.refs}
        if not heads:
            time.sleep(patience)
            return None
        # Who has waited longest comes first, so that none is passed over again and again.
        order = sorted(heads, key=lambda ref: self._members[heads[ref]].since)
        done, _ = ray.wait(order, num_returns=1, timeout=patience)
        if done:
            return self._received(heads[done[0]])
        self._look_for_places()
        return next((late for each in asked if (late := self._late(each)) is not None), None)

    def describe(self) -> str:
        """Where it is."""
        where = self._settings.address or "this machine"
        return f"of Ray on {where}" + (f", http://{self._dashboard}" if self._dashboard else "")

    def close(self) -> None:
        """End the actors, whose environments have a moment to close, and a cluster of its own."""
        ready = [member.actor.close.remote() for member in self._members.values() if member.greeted]
        if ready:
            ray.wait(ready, num_returns=len(ready), timeout=GRACE)
        for member in self._members.values():
            _end(member)
        self._members.clear()
        self._trained = self._whole = None
        if self._group is not None:
            with suppress(RayError):
                remove_placement_group(self._group)
        if self._owns and ray.is_initialized():
            ray.shutdown()

    # Parts ----------------------------------------------------------------------------------------

    def _actor(self, number: int, times: int) -> Any:
        settings = self._settings
        strategy: Any = "SPREAD"
        if settings.actors_per_node is not None:
            self._group = self._group or self._placed(settings.actors_per_node)
            strategy = PlacementGroupSchedulingStrategy(self._group, number // settings.actors_per_node)
        named = f"{self._name}/actor-{number}" + (f" (start {times})" if times > 1 else "")
        options = {
            "name": named,
            "namespace": self._namespace,
            "num_cpus": settings.cpus_per_actor,
            "num_gpus": settings.gpus_per_actor,
            "scheduling_strategy": strategy,
            "max_restarts": 0,  # one that begins anew needs other seeds
        }
        return ray.remote(RolloutWorker).options(**options).remote()

    def _placed(self, share: int) -> PlacementGroup:
        """Room for so many actors on each of as many nodes as that takes."""
        settings = self._settings
        sizes = [min(share, settings.actors - begin) for begin in range(0, settings.actors, share)]
        each = {"CPU": settings.cpus_per_actor, "GPU": settings.gpus_per_actor}
        bundles = [{kind: count * size for kind, count in each.items() if count} for size in sizes]
        return placement_group(bundles, strategy="STRICT_SPREAD", name=f"{self._name}/actors")

    def _received(self, number: int) -> Arrival:
        """What has arrived of an actor, or why nothing will.

        Raises:
            Whatever it raised: a fault of the settings, or of its environments, which another start does not mend.
        """
        member = self._members[number]
        ref = member.refs.popleft()
        member.since = time.monotonic()
        try:
            what = ray.get(ref)
        except RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            if isinstance(cause, RayError) and cause is not error:  # what it was sent is gone
                return Arrival(number, _lost(number, cause))
            cause.add_note(f"in actor {number}:\n{error}")
            raise cause from None
        except RayError as error:
            return Arrival(number, _lost(number, error))
        member.greeted = member.greeted or isinstance(what, Greeting)
        return Arrival(number, what)

    def _late(self, number: int) -> Arrival | None:
        """That an actor takes too long, if it does; it is ended then."""
        member = self._members[number]
        waited = time.monotonic() - member.since
        if self._timeout is None or not member.greeted or not member.refs or waited < self._timeout:
            return None
        _end(member)
        said = f"actor {number} has given nothing for {waited:.3g} s, and was ended; train.step_timeout="
        return Arrival(number, TimeoutError(f"{said}{self._timeout:g} is its limit (null for none)"))

    def _look_for_places(self) -> None:
        """Say which actors wait for a place.

        Raises:
            SetupError: all of them do, and have for long, so that nothing of the cluster is in use.
        """
        now = time.monotonic()
        waiting = [i for i, each in self._members.items() if not each.greeted and now - each.since > LONG]
        if not waiting:
            self._told = False
            return
        settings, needs = self._settings, "distributed.cpus_per_actor, gpus_per_actor"
        room, free = ray.cluster_resources(), ray.available_resources()
        said = (
            f"actors {', '.join(map(str, waiting))} wait for a place, or are starting: each takes "
            f"{settings.cpus_per_actor:g} CPU and {settings.gpus_per_actor:g} GPU ({needs}), at most "
            f"{settings.actors_per_node or 'any number of'} on a node; the cluster has "
            f"{_room(room)}, of which free: {_room(free)}"
        )
        placed = room.get("CPU", 0) - free.get("CPU", 0) >= settings.cpus_per_actor
        if not placed and all(now - each.since > LONGEST for each in self._members.values()):
            raise SetupError(said)
        if not self._told:
            print(f"warning: {said}", flush=True)
            self._told = True


def _connect(settings: RayConfig, name: str) -> str:
    """Reach the cluster, or start one; the address of its dashboard, "" where there is none. Raises SetupError."""
    heard = signal.getsignal(signal.SIGTERM)
    given: dict[str, Any] = {"address": settings.address or "local"}
    if settings.address is None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Else actors stand back (nice 15) behind the learner that waits for them, and behind whatever else runs here.
        os.environ.setdefault("RAY_worker_niceness", "0")
        needed = int(np.ceil(settings.actors * settings.cpus_per_actor))
        given |= {
            "num_cpus": max(os.cpu_count() or 1, needed),
            "include_dashboard": settings.dashboard,
            "object_store_memory": settings.object_store,
        }
    job = ray.job_config.JobConfig(metadata={"run": name, "part": "learner"})
    try:
        return ray.init(**given, job_config=job, logging_level=logging.WARNING).dashboard_url or ""
    except Exception as error:  # of many kinds
        why = " ".join(str(error).split())[:500]
        raise SetupError(f"distributed.address: no cluster of Ray at {settings.address or 'local'}: {why}") from error
    finally:
        signal.signal(signal.SIGTERM, heard)  # Ray's own would end the run without a checkpoint


def _end(member: _Member) -> None:
    member.refs.clear()
    with suppress(RayError):
        ray.kill(member.actor)


def _lost(number: int, error: RayError) -> RuntimeError:
    """Why an actor is gone, in a line."""
    said = next((line.strip() for line in reversed(traceback.format_exception_only(error)) if line.strip()), "")
    return RuntimeError(f"actor {number} is gone: {' '.join(said.split())[:300]}")


def _room(resources: dict[str, float]) -> str:
    return ", ".join(f"{resources.get(kind, 0):g} {kind}" for kind in ("CPU", "GPU"))
