"""`vla-rl serve CHECKPOINT`: a trained policy for robots and programs elsewhere, by openpi's websocket protocol."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from socket import socket as Socket
from typing import TYPE_CHECKING, Any

import numpy as np

from vla_rl import __version__, config
from vla_rl.actions import horizon
from vla_rl.registry import ConfigError, SetupError
from vla_rl.rollout.actor import Actor, load_actor
from vla_rl.rollout.hub import fetched
from vla_rl.rollout.rows import Row
from vla_rl.runtime.listening import in_address, is_local, listener
from vla_rl.specs import IMAGES, STATE, TASK

if TYPE_CHECKING:
    from vla_rl.serving.server import Limits, Server

TOKEN = "VLA_RL_TOKEN"
"""The environment variable that holds what clients must say, since other users see a command's arguments."""
SHORTEST = 16
"""Characters of a token."""


def serve(
    checkpoint: str | Path,
    overrides: Sequence[str] = (),
    config_dir: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    batch: int = 32,
    clients: int = 64,
    timeout: float = 30.0,
    megabytes: float = 8.0,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Answer observations with actions, until Ctrl-C or SIGTERM.

    Args:
        checkpoint: a run's folder, any of its checkpoints, a policy's folder, or a hub id.
        overrides: of its config, such as `device=cuda`, `eval.best_of=16` or `plugins=[my_module]`.
        host, port: where to listen; port 0 takes a free one. Of any host but this machine's own, the environment
            variable VLA_RL_TOKEN says what clients must say.
        batch: decisions that are made together. clients: at the same time. timeout: seconds that a decision may take.
        megabytes: of an observation.
        ready: is told the address, once the policy has decided for the first time; by default, it is printed.

    Raises:
        SetupError: what serving needs is not installed.
        ConfigError: no token where there must be one, or a limit below one.
        FileNotFoundError, ValueError: as `vla_rl.load`.
    """
    try:
        from vla_rl.serving.server import Limits
    except ImportError as error:
        raise SetupError(f"{error}; `pip install 'vla-rl[serve]'` installs what serving needs") from error
    token = _token(host)
    for name, value in (("batch", batch), ("clients", clients), ("timeout", timeout), ("max-mb", megabytes)):
        if not value > 0:
            raise ConfigError(f"--{name}: more than 0 is needed, got {value}")
    limits = Limits(clients, int(megabytes * 2**20), timeout)
    # Whoever comes early waits. One thread decides, so that decisions never compete.
    with listener(host, port, "serve") as socket, ThreadPoolExecutor(1, "decides") as calls:
        actor = acting(checkpoint, overrides, config_dir)
        calls.submit(warm_up, actor, batch).result()
        address = f"ws://{in_address(host)}:{socket.getsockname()[1]}{' with a token' if token else ''}"
        told = partial(ready or partial(print, flush=True), f"serving {checkpoint} on {address}")
        if asyncio.run(_until_told(actor, batch, calls, limits, token, socket, told)):
            raise KeyboardInterrupt


def acting(checkpoint: str | Path, overrides: Sequence[str] = (), config_dir: Path | None = None) -> Actor:
    """The actor of a checkpoint, as its own config and the overrides say it."""
    folder = fetched(checkpoint)
    run = config.load([*overrides, f"eval.checkpoint={folder}"], config_dir=config_dir, command="eval")
    return load_actor(folder, run.device, run.eval.best_of, run.plugins, run.mixed_precision, run.seed)


def about(actor: Actor, limits: Limits) -> dict[str, Any]:
    """What a client is told on connecting."""
    policy = actor.policy
    return {
        "server": f"vla_rl {__version__}",
        "images": [IMAGES + camera for camera in policy.cameras],
        "image_size": policy.trunk.backbone.image_size,
        "state": policy.state_dim,
        "action_horizon": horizon(policy.action_space),
        "stack": policy.settings.stack,
        "remembers": policy.settings.remembers,
        "max_message_bytes": limits.message_bytes,
    }


def warm_up(actor: Actor, batch: int) -> None:
    """Decide for one, and for as many as a batch may hold, so that the first client does not wait, nor meets a lack of
    memory."""
    policy = actor.policy
    side = policy.trunk.backbone.image_size
    shown: dict[str, Any] = {IMAGES + camera: np.zeros((1, side, side, 3), np.uint8) for camera in policy.cameras}
    shown |= {STATE: np.zeros((1, policy.state_dim), np.float32), TASK: ["warm up"]}
    for count in sorted({1, batch}):
        rows = [Row(policy.settings.stack) for _ in range(count)]
        for _ in range(2):  # what is remembered comes in at the second
            actor.decide(rows, [row.look(shown) for row in rows])


async def _until_told(
    actor: Actor,
    batch: int,
    calls: Executor,
    limits: Limits,
    token: str | None,
    socket: Socket,
    ready: Callable[[], None],
) -> bool:
    """Serve until a signal comes; whether it was Ctrl-C's."""
    loop, told = asyncio.get_running_loop(), asyncio.Queue[int]()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.put_nowait, number)
    async with server(actor, batch, calls, limits, token).listening(socket):
        ready()
        return await told.get() == signal.SIGINT


def server(actor: Actor, batch: int, calls: Executor, limits: Limits, token: str | None) -> Server:
    """What serves an actor's decisions. calls: the one thread that calls the actor."""
    from vla_rl.serving.batcher import Batcher
    from vla_rl.serving.server import Server

    return Server(actor, Batcher(actor, batch, calls), limits, token, about(actor, limits))


def _token(host: str) -> str | None:
    """What clients must say; None where whoever is on this machine may ask."""
    token = os.environ.get(TOKEN)
    if token is None and not is_local(host):
        raise ConfigError(
            f"--host: {host} is reached from other machines, so clients must say a token: set {TOKEN}, for example by "
            f"export {TOKEN}=$(python -c 'import secrets; print(secrets.token_urlsafe())'); or use ssh -L"
        )
    if token is not None and len(token) < SHORTEST:
        raise ConfigError(f"{TOKEN}: at least {SHORTEST} characters, got {len(token)}")
    return token
