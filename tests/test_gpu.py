"""What only a GPU can show; `bash scripts/gpu.sh` runs it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vla_rl import config
from vla_rl.algorithms.learner_batch import on_device
from vla_rl.data.record import record
from vla_rl.replay import ReplayBuffer
from vla_rl.runtime import checkpoint
from vla_rl.runtime.hardware import host_memory
from vla_rl.runtime.learner import Learner
from vla_rl.sft import sft
from vla_rl.specs import IMAGES, TASK
from vla_rl.train import train

pytestmark = pytest.mark.gpu
FRONT = IMAGES + "front"


@pytest.fixture(autouse=True)
def cuda() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device("cuda")


def test_page_locked_batches_arrive_whole_however_far_the_gpu_is_behind(cuda: torch.device) -> None:
    learner, rng = Learner("cuda"), np.random.default_rng(0)
    frames = rng.integers(0, 256, (200, 64, 64, 3), np.uint8)
    buffer = ReplayBuffer(256, {"front": (64, 64, 3)}, state_dim=0, slots=1, n_step=1, allocate=host_memory(cuda))
    no, row = np.zeros(1, bool), np.zeros((1, 1), np.int64)
    for frame in frames:
        buffer.add({FRONT: frame[None], TASK: ["go"]}, row, np.zeros(1), no, no, no)
    work, arrived = torch.rand(8192, 8192, device=cuda), []
    for _ in range(40):
        work = work @ work / 8192  # so that every copy waits for its turn, while the next batches are made
        batch = buffer.sample(64, rng)
        pictures = torch.from_numpy(batch.observation[FRONT])
        assert pictures.is_pinned()
        arrived.append((batch.index.copy(), on_device({FRONT: batch.observation[FRONT]}, cuda)[FRONT]))
        learner.hold(batch)
        del batch, pictures
    for index, pictures in arrived:
        assert np.array_equal(pictures.cpu().numpy(), frames[index])


@pytest.mark.parametrize("cache", ["always", "never"])
def test_a_run_learns_saves_and_goes_on(quick: list[str], tmp_path: Path, cache: str) -> None:
    here = [*[setting for setting in quick if setting != "device=cpu"], "device=cuda", f"replay.cache={cache}"]
    record(config.load(here, command="demos"))
    start = sft(config.load([*here, f"run_dir={tmp_path}/sft"], command="sft"))
    last = train(config.load([*here, f"train.checkpoint={start}", f"run_dir={tmp_path}/run"]))
    before = checkpoint.load_state(last / "training_state")
    further = train(config.load([f"run_dir={tmp_path}/run", "resume=true", "train.steps=96"]))
    after = checkpoint.load_state(further / "training_state")
    assert after["algorithm"]["updates"] > before["algorithm"]["updates"] > 0
