"""One update in two processes is the update of one process with the joint batch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import LoggerType

from tests.launch import in_processes
from vla_rl.registry import ConfigError, FaultError, SetupError
from vla_rl.runtime.learner import MAX_BAD_STEPS, Learner

SCRIPT = """
import sys, torch
from safetensors.torch import save_file
from vla_rl.runtime.learner import Learner

torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
learner = Learner(device="cpu", seed=3)
assert learner.processes == int(sys.argv[2]), learner.processes
optimizer = learner.optimizer(net.parameters(), lr=0.1)
joint = torch.linspace(-1, 1, 8 * 4).view(8, 4)
rows = 8 // learner.processes
for _ in range(5):
    own = joint[learner.rank * rows : (learner.rank + 1) * rows]
    noise = learner.uniform(rows, 1)
    spread = learner.mean(own.abs().mean())
    loss = ((net(own) - noise) ** 2).mean() * spread
    norm = learner.step(loss, optimizer, clip=0.5)
if learner.rank == 0:
    save_file({**net.state_dict(), "norm": norm}, sys.argv[1])
"""


def weights_after(tmp_path: Path, processes: int) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    script, out = tmp_path / "update.py", tmp_path / f"weights_{processes}.safetensors"
    script.write_text(SCRIPT)
    in_processes(processes, str(script), str(out), str(processes))
    return load_file(out)


@pytest.mark.processes
def test_two_processes_update_like_one_with_the_joint_batch(tmp_path: Path) -> None:
    one, two = weights_after(tmp_path, 1), weights_after(tmp_path, 2)
    assert one.keys() == two.keys()
    for name in one:
        assert torch.allclose(one[name], two[name], atol=1e-6), name


def test_a_gradient_that_is_not_finite_changes_nothing_and_stops_the_run_in_the_end() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    learner = Learner(device="cpu")
    optimizer = learner.optimizer([weight], lr=0.1)
    learner.step(weight.sum(), optimizer, clip=1.0)
    before, moments = weight.detach().clone(), optimizer.state_dict()["state"][0]["exp_avg"].clone()
    for _ in range(MAX_BAD_STEPS - 1):
        learner.step((weight * float("nan")).sum(), optimizer, clip=1.0)
    assert torch.equal(weight, before)
    assert torch.equal(optimizer.state_dict()["state"][0]["exp_avg"], moments)
    assert learner.skipped == MAX_BAD_STEPS - 1
    with pytest.raises(FaultError, match="not finite"):
        learner.step((weight * float("nan")).sum(), optimizer, clip=1.0)


def test_noise_is_the_seed_s_and_goes_on_after_a_restart() -> None:
    first, second = Learner(device="cpu", seed=5), Learner(device="cpu", seed=5)
    assert torch.equal(first.uniform(4, 2), second.uniform(4, 2))
    state = first.state_dict()
    expected = first.uniform(3)
    second.load_state_dict(state)
    assert torch.equal(second.uniform(3), expected)


def test_an_unknown_or_missing_device_is_refused() -> None:
    with pytest.raises(ValueError, match="tpu"):
        Learner(device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="sees no CUDA"):
            Learner(device="cuda")


def test_what_would_spread_a_model_in_another_way_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"sharding: fsdp .* not in fp16; give mixed_precision=bf16"):
        Learner(device="cpu", mixed_precision="fp16", sharding="fsdp")
    with pytest.raises(ConfigError, match=r"adamw_8bit does not go with sharding; give optimizer=adamw"):
        Learner(device="cpu", sharding="fsdp", optimizer="adamw_8bit")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ConfigError, match=r"accelerate was started for FSDP.* give sharding=fsdp"):
        Learner(device="cpu")


def test_a_tracker_that_is_not_installed_is_refused(tmp_path: Path) -> None:
    there = {"all", *map(str, get_available_trackers())}
    for name in set(LoggerType.list()) - there:
        with pytest.raises(SetupError, match=f"tracker: '{name}' is not installed; `pip install {name}`"):
            Learner("cpu", tracker=name, folder=tmp_path)


def test_a_tracker_that_nobody_knows_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tracker: unknown name 'wandbb'; did you mean 'wandb'\?"):
        Learner("cpu", tracker="wandbb", folder=tmp_path)


def test_a_tracker_that_cannot_begin_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_key(*_: Any, **__: Any) -> None:
        raise PermissionError("no API key")

    monkeypatch.setattr(Accelerator, "init_trackers", no_key)
    learner = Learner("cpu", tracker="tensorboard", folder=tmp_path)
    with pytest.raises(SetupError, match="tracker: 'tensorboard' cannot begin: PermissionError: no API key"):
        learner.track(0)
