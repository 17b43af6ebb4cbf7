"""`vla-rl export`: demonstrations, or the replay of a run, to a LeRobotDataset."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vla_rl import config
from vla_rl.actions import horizon
from vla_rl.data import files, lerobot
from vla_rl.data.flat import pack
from vla_rl.data.lerobot.layout import Mode
from vla_rl.data.lerobot.replays import Act
from vla_rl.registry import ConfigError
from vla_rl.replay import ReplayBuffer
from vla_rl.replay.journal import STATE_FILE

if TYPE_CHECKING:
    from vla_rl.envs import EnvSpec


def export(
    source: Path,
    out: Path,
    mode: Mode = "image",
    fps: float = 10,
    overrides: Sequence[str] = (),
    config_dir: Path | None = None,
) -> int:
    """Write a folder of demonstrations, or the finished episodes of a run's last checkpoint; how many there were.

    Args:
        source: the folder of demonstrations, or of a run. out: a new folder. mode: `image` keeps every pixel as it
            is; `video` takes less room, and does not. fps: what the dataset says of its frames' times.
        overrides: of the run's config, such as the `plugins` that it needs.

    Raises:
        ConfigError: nothing of the kind lies at `source`.
        FileExistsError: something lies at `out` already.
        ValueError: `source` is damaged; names the file.
        SetupError: pyarrow is not installed.
    """
    if (source / "meta.json").is_file():
        _, meta, episodes = files.scan(source)
        kept: dict[str, Any] = {key: meta[key] for key in ("env", "noise", "seed") if key in meta}
        count = lerobot.write_demonstrations(episodes, out, mode, fps, meta=kept)
    elif (source / config.CONFIG_FILE).is_file():
        count = _export_run(source, out, mode, fps, overrides, config_dir)
    else:
        raise ConfigError(
            f"{source}: expected a folder of demonstrations (with meta.json) or of a run (with {config.CONFIG_FILE})"
        )
    print(f"{count} episodes in {out}")
    return count


def _export_run(
    source: Path, out: Path, mode: Mode, fps: float, overrides: Sequence[str], config_dir: Path | None
) -> int:
    from vla_rl import build
    from vla_rl.resume import REPLAY, STATE
    from vla_rl.runtime import checkpoint  # torch, which demonstrations do without

    run = config.load(overrides, config_dir=config_dir, base=source / config.CONFIG_FILE, command="export")
    generation = checkpoint.latest(source)
    if generation is None or not (generation.folder / STATE / REPLAY).is_dir():
        raise ConfigError(f"{source}: holds no checkpoint with a replay")
    if lost := [path for path in generation.damaged if path.name == STATE_FILE]:
        raise ConfigError(f"{lost[0]}: damaged, so that nothing of the replay can be read")
    with tempfile.TemporaryDirectory(dir=out.parent if out.parent.is_dir() else None) as scratch:
        limits = {"ram_bytes": run.replay.ram_bytes, "disk_bytes": run.replay.disk_bytes}
        replays = [
            ReplayBuffer.of_saved(saved, generation.damaged, **limits, folder=Path(scratch, saved.parent.name))
            for saved in sorted(generation.folder.glob("training_state*/replay"))  # one of each process
        ]
        return lerobot.write_replay(
            replays, out, _act(build.env_spec(run)), mode, fps, meta={"env": ", ".join(env.id for env in run.envs)}
        )


def _act(spec: EnvSpec) -> Act:
    """From tokens to the numbers of their action, or of their chunk of actions, one after another."""

    def act(tokens: np.ndarray) -> np.ndarray:
        decoded = spec.tokens.decode(tokens)
        steps = decoded if horizon(spec.tokens) > 1 else (decoded,)
        return np.concatenate([np.ravel(pack(step, spec.actions)) for step in steps])

    return act
