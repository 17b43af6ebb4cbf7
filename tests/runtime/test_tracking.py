"""Trackers are told the run's name and config, and are shown films."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from accelerate.utils import LoggerType
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vla_rl.runtime.learner import Learner

FILM = [np.full((20, 30, 3), 10 * step, np.uint8) for step in range(8)]


class Told(GeneralTracker):
    """Stands in for W&B, which is not installed here: keeps what accelerate tells it."""

    name = "wandb"
    requires_logging_directory = False
    made: Any = None

    def __init__(self, project: str, **settings: Any) -> None:
        super().__init__()
        self.project, self.settings, self.lines, self.config, self.over = project, settings, [], {}, False
        Told.made = self

    @property
    def tracker(self) -> Any:
        return self

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.config = values

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        self.lines.append((step, values))

    def finish(self) -> None:
        self.over = True


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> type[Told]:
    for module in ("accelerate.tracking", "vla_rl.runtime.learner"):
        monkeypatch.setattr(f"{module}.get_available_trackers", lambda: [LoggerType.WANDB])
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "wandb", Told)
    video = lambda path, format: (Path(path).read_bytes()[4:8], format)  # noqa: E731
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(Video=video))
    return Told


def test_wandb_gets_project_name_config_and_films_and_a_resumed_run_goes_on(wandb: type[Told], tmp_path: Path) -> None:
    ids = []
    for _ in range(2):
        learner = Learner("cpu", tracker="wandb", folder=tmp_path)
        learner.track(40, {"seed": 1, "env.sensors": [{"type": "camera"}], "run_dir": None})
        learner.show(80, {"success": FILM})
        learner.close()
        made = wandb.made
        assert (made.project, made.settings["name"]) == ("vla_rl", tmp_path.name)
        assert made.config == {"seed": 1, "env.sensors": "[{'type': 'camera'}]", "run_dir": "None"}
        assert made.lines == [(80, {"films/success": (b"ftyp", "mp4")})]
        assert made.over
        ids.append((made.settings["id"], made.settings["resume"]))
    assert ids[0] == ids[1]
    assert (tmp_path / "videos" / "success.mp4").is_file()


def test_tensorboard_shows_config_and_films(tmp_path: Path) -> None:
    learner = Learner("cpu", tracker="tensorboard", folder=tmp_path)
    learner.track(0, {"seed": 7, "env.id": "vla_rl/Reach-v0"})
    learner.show(16, {"success": FILM})
    learner.close()
    told = EventAccumulator(str(tmp_path / "tracker"), size_guidance={"images": 0, "tensors": 0})
    told.Reload()
    (image,) = told.Images("films/success")
    assert (image.step, image.width, image.height) == (16, 30, 20)
    assert Image.open(io.BytesIO(image.encoded_image_string)).n_frames == len(FILM)
    (config,) = told.Tensors("config/text_summary")
    assert b"env.id: vla_rl/Reach-v0" in config.tensor_proto.string_val[0]
    assert [each.name for each in (tmp_path / "tracker").iterdir() if each.is_dir()] == []


def test_films_that_cannot_be_shown_end_no_run(tmp_path: Path) -> None:
    learner = Learner("cpu", tracker="tensorboard", folder=tmp_path)
    learner.track(0)
    with pytest.warns(UserWarning, match="films of step 16 are left out"):
        learner.show(16, {"success": []})


def test_without_a_tracker_nothing_is_shown_or_written(tmp_path: Path) -> None:
    learner = Learner("cpu", folder=tmp_path)
    learner.track(0, {"seed": 1})
    learner.show(16, {"success": FILM})
    assert not learner.shows_films
    assert not list(tmp_path.iterdir())
