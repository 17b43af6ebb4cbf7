"""An update in several processes is that of one process with the joint batch, whoever keeps which weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.launch import in_processes
from tests.ranks_driver import WAYS

DRIVER = str(Path(__file__).parents[1] / "ranks_driver.py")
Made = dict[str, dict[str, torch.Tensor]]
pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def updated(random_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Made]:
    """What updates have made in so many processes, by the way that the policy trained."""
    found = dict[int, Made]()
    for processes in (1, 2, 4):
        out = tmp_path_factory.mktemp(f"in_{processes}")
        in_processes(processes, DRIVER, str(random_backbone), str(out))
        found[processes] = {path.stem: load_file(path) for path in out.iterdir()}
    return found


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize(("train", "sharding"), WAYS)
def test_several_processes_update_like_one_with_the_joint_batch(
    updated: dict[int, Made], train: str, sharding: str | None, processes: int
) -> None:
    one, several = updated[1][f"{train}_None"], updated[processes][f"{train}_{sharding}"]
    assert one.keys() == several.keys()
    for name, value in one.items():
        # Adam's first steps tell a gradient's sign, however small it is, so that weights are told less exactly.
        close = {"norm": 1e-5, "policy": 2e-4}.get(name.partition(".")[0], 5e-5)
        assert torch.allclose(value.float(), several[name].float(), atol=close, rtol=1e-4), name
