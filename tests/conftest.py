"""What several tests share: no hub, a small backbone with random weights, and a screen."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def random_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny backbone that was never trained."""
    import torch

    from vla_rl.models.backbone import Backbone
    from vla_rl.models.pointers import Pointers
    from vla_rl.models.tiny import tiny_config, tiny_tokenizer

    folder = tmp_path_factory.mktemp("backbone")
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer(["reach the red cube"])
    backbone = Backbone.from_config(tiny_config(len(tokenizer), width=16, seeing=1, reading=1), tokenizer, 64)
    backbone.save(folder)
    Pointers(backbone.hidden_size, key_size=8).save(folder)
    return folder


@pytest.fixture
def quick(random_backbone: Path, tmp_path: Path) -> list[str]:
    """Overrides for a run of seconds on Reach; demonstrations lie in the test's folder."""
    return [
        "experiment=smoke",
        "device=cpu",
        f"policy.backbone={{type: pretrained, source: '{random_backbone}'}}",
        f"demos.path={tmp_path}/demos",
        "algorithm.warmup_updates=4",
        "algorithm.batch_size=32",
        "algorithm.actor_batch_size=16",
        "algorithm.critic_width=32",
        "train.updates_per_step=0.5",
    ]


@pytest.fixture
def line(quick: list[str], tmp_path: Path) -> list[str]:
    """Overrides for a run of a second on the line of `fakes`, without demonstrations."""
    from tests import fakes

    own = [
        f"env.id={fakes.LINE}",
        "env.sensors=null",
        "train.workers=0",
        "demos.episodes=0",
        "algorithm.demo_share=0",
        "algorithm.mc_weight=0.5",
        "train.log_every=8",
        "tracker=null",
        f"run_dir={tmp_path}/run",
    ]
    return [*quick, *own]


@pytest.fixture(scope="session")
def display() -> Iterator[str]:
    """A screen that nobody sees. It lasts: Tk ends a process whose screen has gone."""
    pytest.importorskip("tkinter", reason="no tkinter: apt-get install python3-tk")
    if shutil.which("Xvfb") is None:
        pytest.skip("no Xvfb: apt-get install xvfb")
    reads, writes = os.pipe()
    command = ["Xvfb", "-displayfd", str(writes), "-screen", "0", "1280x800x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[writes], stderr=subprocess.DEVNULL)
    os.close(writes)
    with os.fdopen(reads) as pipe:
        yield f":{pipe.readline().strip()}"
    server.terminate()
    server.wait()


@pytest.fixture
def screen(display: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows open on that screen."""
    monkeypatch.setenv("DISPLAY", display)
