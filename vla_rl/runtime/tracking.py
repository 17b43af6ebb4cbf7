"""What a tracker (TensorBoard, W&B, trackio) is told beside numbers: the run's name, its config, and films."""

from __future__ import annotations

import hashlib
import importlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from PIL import Image

from vla_rl.media.video import write_video

PROJECT = "vla_rl"
"""What W&B and trackio list runs under."""
FOLDER = "tracker"
"""In a run's folder: TensorBoard's files, and what W&B keeps on disk."""
VIDEOS = "videos"
MOST_FRAMES, FPS = 80, 10.0
"""Of a film that a tracker is shown; of a longer one, frames are left out evenly."""
SMALL = 160
"""Pixels that a film has at most in TensorBoard's files, which keep them all."""
_TENSORBOARD = "tensorboard"


def begin(accelerator: Accelerator, tracker: str, folder: Path, step: int, settings: Mapping[str, Any]) -> None:
    """Begin to track the run in `folder`, which stands at `step`, under the folder's name. One that is resumed goes on.

    settings: the config, by dotted key; TensorBoard shows it as a text.
    """
    name, key = folder.resolve().name, hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    own: dict[str, dict[str, Any]] = {
        _TENSORBOARD: {"purge_step": step + 1},
        "wandb": {"name": name, "id": key, "resume": "allow", "dir": str(folder / FOLDER)},
        "trackio": {"name": name, "resume": "allow"},
    }
    alone = tracker == _TENSORBOARD  # whose first name is its folder's, and whose table of settings is files of its own
    told = {
        key: value if isinstance(value, bool | int | float | str) else str(value) for key, value in settings.items()
    }
    accelerator.init_trackers(FOLDER if alone else PROJECT, config=None if alone else told, init_kwargs=own)
    for each in accelerator.trackers:
        if each.name == _TENSORBOARD and accelerator.is_main_process:
            each.tracker.add_text("config", "\n".join(f"    {key}: {value}" for key, value in told.items()), step)


def show(accelerator: Accelerator, folder: Path, step: int, films: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Have every tracker that can show them show films: uint8 frames [H, W, 3] by name.

    The latest of each name lies in the run's `videos/`, too.
    """
    for name, frames in films.items():
        picked = [
            frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, min(len(frames), MOST_FRAMES)).astype(int))
        ]
        path = write_video(folder / VIDEOS / f"{name}.mp4", picked, FPS)
        for each in accelerator.trackers:
            if each.name == _TENSORBOARD:
                _to_tensorboard(each.tracker, name, picked, step)
            elif each.name in ("wandb", "trackio"):  # which need not be installed
                video = importlib.import_module(each.name).Video(str(path), format="mp4")
                each.log({f"films/{name}": video}, step=step)


def _to_tensorboard(writer: Any, name: str, frames: Sequence[np.ndarray], step: int) -> None:
    """A film as an animated GIF among the images, as `SummaryWriter.add_video` has it, which needs another package."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    pictures, buffer = [Image.fromarray(np.ascontiguousarray(frame)) for frame in frames], io.BytesIO()
    for picture in pictures:
        picture.thumbnail((SMALL, SMALL), Image.Resampling.BOX)
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=round(1000 / FPS), loop=0)
    width, height = pictures[0].size
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=buffer.getvalue())
    writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=f"films/{name}", image=image)]), step)
    writer.flush()
