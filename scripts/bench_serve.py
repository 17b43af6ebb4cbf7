"""What serving many clients at once costs and brings: decisions a second and latency, against single decisions.

`python scripts/bench_serve.py [--clients 32] [--seconds 10] [--rounds 3] [CHECKPOINT]`: serves a checkpoint (by default
a fresh policy of Reach on the tiny backbone, of which only the speed is looked at) by `vla-rl serve`, once with batches
and once with --batch 1, and asks both in turn: one client alone, all clients, and all clients beside offenders
(garbage, huge messages, clients that vanish). A client asks for its next decision as soon as it has the last. Told
beside the clock: decisions per second of the server's own CPU time, which what else runs on the machine changes little.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from vla_rl import build, config
from vla_rl.serving.messages import packed, unpacked
from vla_rl.specs import STATE, TASK

TEXTS = ("reach the red cube", "reach the blue ball", "reach the green cylinder")


@dataclass
class Window:
    """What happened in a while. waits: seconds for each decision. clock, cpu: seconds, also of the server's CPU."""

    waits: list[float] = field(default_factory=list)
    clock: float = 0.0
    cpu: float = 0.0
    errors: int = 0
    offences: int = 0

    def add(self, other: Window) -> None:
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    @property
    def row(self) -> dict[str, float]:
        p50, p99 = np.percentile(self.waits, [50, 99]) * 1000
        return {
            "decisions": len(self.waits),
            "decisions_s": len(self.waits) / self.clock,
            "decisions_cpu_s": len(self.waits) / self.cpu,
            "p50_ms": p50,
            "p99_ms": p99,
            "errors": self.errors,
            "offences": self.offences,
        }


class Served:
    """A process of `vla-rl serve`."""

    def __init__(self, checkpoint: str, batch: int, clients: int) -> None:
        flags = ["--port", "0", "--batch", str(batch), "--clients", str(2 * clients + 8)]
        command = [sys.executable, "-m", "vla_rl.cli", "serve", checkpoint, *flags]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().split()[3]

    def cpu(self) -> float:
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", nargs="?")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = chosen.checkpoint or fresh(Path(folder, "policy"))
        batched, single = (Served(checkpoint, batch, chosen.clients) for batch in (chosen.clients, 1))
        try:
            found = asyncio.run(measured(batched, single, chosen.clients, chosen.seconds, chosen.rounds))
        finally:
            batched.close()
            single.close()
    rows = {name: window.row for name, window in found.items()}
    print(json.dumps(rows, indent=1) if chosen.json else table(rows))


def fresh(folder: Path) -> str:
    """A policy of Reach with an untrained head."""
    run = config.load(["env=reach", "device=cpu"])
    build.fresh_policy(run, build.env_spec(run)).save_pretrained(folder)
    return str(folder)


async def measured(batched: Served, single: Served, clients: int, seconds: float, rounds: int) -> dict[str, Window]:
    """Every case in turn, so often, so that a busy machine is so for all of them."""
    cases: dict[str, Callable[[], Awaitable[Window]]] = {
        "1 client": lambda: window(single, 1, seconds),
        f"{clients} clients, one decision at a time": lambda: window(single, clients, seconds),
        f"{clients} clients, decided together": lambda: window(batched, clients, seconds),
        "the same beside offenders": lambda: window(batched, clients, seconds, (garbage, huge, vanishing)),
    }
    found = {name: Window() for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            found[name].add(await case())
    return found


async def window(
    served: Served, clients: int, seconds: float, offenders: tuple[Callable[[str], Awaitable[None]], ...] = ()
) -> Window:
    """Clients that ask on and on, for so many seconds."""
    talks = [await connect(served.address, compression=None, max_size=None) for _ in range(clients)]
    hellos = [await talk.recv() for talk in talks]
    told = unpacked(hellos[0])  # type: ignore[arg-type]
    result = Window()
    offending = [asyncio.create_task(forever(each, served.address, result)) for each in offenders]
    cpu, begun = served.cpu(), time.perf_counter()
    await asyncio.gather(*(ask(talk, told, begun + seconds, number, result) for number, talk in enumerate(talks)))
    result.clock, result.cpu = time.perf_counter() - begun, served.cpu() - cpu
    for task in offending:
        task.cancel()
    await asyncio.gather(*offending, *(talk.close() for talk in talks), return_exceptions=True)
    return result


async def ask(talk: ClientConnection, told: dict[str, Any], until: float, number: int, result: Window) -> None:
    """Decision after decision, each for a new picture."""
    rng, side = np.random.default_rng(number), told["image_size"]
    pictures = {key: rng.integers(0, 255, (side, side, 3), dtype=np.uint8) for key in told["images"]}
    state = np.zeros(told["state"], np.float32)
    question = packed({**pictures, STATE: state, TASK: TEXTS[number % len(TEXTS)]})
    while (begun := time.perf_counter()) < until:
        await talk.send(question)
        if isinstance(await talk.recv(), bytes):
            result.waits.append(time.perf_counter() - begun)
        else:
            result.errors += 1


async def forever(offend: Callable[[str], Awaitable[None]], address: str, result: Window) -> None:
    """Ten offences a second, or as many as the machine allows."""
    while True:
        with suppress(ConnectionClosed, InvalidStatus, OSError):
            await offend(address)
        result.offences += 1
        await asyncio.sleep(0.1)


async def garbage(address: str) -> None:
    """Bytes that are no message."""
    async with connect(address, compression=None) as talk:
        await talk.recv()
        await talk.send(secrets.token_bytes(10_000))
        await talk.recv()


async def huge(address: str) -> None:
    """A message that is larger than the server takes."""
    async with connect(address, compression=None, max_size=None) as talk:
        told = unpacked(await talk.recv())  # type: ignore[arg-type]
        await talk.send(bytes(2 * told["max_message_bytes"]))
        await talk.recv()


async def vanishing(address: str) -> None:
    """Half a message, and no farewell."""
    talk = await connect(address, compression=None)
    await talk.recv()
    talk.transport.write(b"\x82\xff" + (1 << 20).to_bytes(8, "big") + os.urandom(4096))
    talk.transport.abort()


def table(rows: dict[str, dict[str, float]]) -> str:
    """As docs/serving.md shows it."""
    names = ("decisions_s", "decisions_cpu_s", "p50_ms", "p99_ms", "errors")
    lines = ["| | decisions/s | per second of the server's CPU | p50, ms | p99, ms | errors |", "|---|" + "---:|" * 5]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(f"{row[each]:.4g}" for each in names) + " |")
    _, alone, together, beside = rows.values()
    for key, what in (("decisions_s", "decisions/s"), ("decisions_cpu_s", "per second of CPU")):
        lines.append(f"{what}, together over one at a time: {together[key] / alone[key]:.2f}")
    share = 1 / beside["decisions_cpu_s"] - 1 / together["decisions_cpu_s"]  # seconds of CPU for each decision
    each = share * beside["decisions"] / max(beside["offences"], 1)
    lines.append(f"an offence costs the server {1000 * each:.1f} ms of CPU ({beside['offences']:.0f} offences)")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
