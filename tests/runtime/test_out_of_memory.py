"""Updates for which memory does not suffice at once: read in parts, of the same batch and with the same gradient."""

from __future__ import annotations

import resource
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import launch
from tests.algorithms.test_algorithms import CONFIGS
from tests.algorithms.test_pa_rl import bandit, make
from vla_rl.models.trunk import Trunk
from vla_rl.registry import FaultError
from vla_rl.runtime.learner import Learner

ROWS = 12


def learned(algorithm: Any, updates: int = 1) -> dict[str, torch.Tensor]:
    """The gradients of the last of some updates on pictures, by the parameter's name, and what it measured."""
    for seed in range(updates):
        metrics = algorithm.update(bandit(algorithm, ROWS, seed=seed, images=True))
    return metrics | {name: value.grad for name, value in algorithm.policy.named_parameters() if value.grad is not None}


def assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.allclose(value, other[name], rtol=2e-4, atol=2e-6, equal_nan=True), name


def limited(monkeypatch: pytest.MonkeyPatch, most: int, error: Callable[[], Exception]) -> list[int]:
    """Have the trunk find no memory for more than `most` rows; how many it read each time."""
    read, tried = Trunk.read, list[int]()

    def reads(trunk: Trunk, images: Any, *further: Any) -> Any:
        tried.append(len(images[0]))
        if len(images[0]) > most:
            raise error()
        return read(trunk, images, *further)

    monkeypatch.setattr(Trunk, "read", reads)
    return tried


@pytest.mark.parametrize("train", ["head", "lora", "all"])
@pytest.mark.parametrize("rows", [1, 5, 6, ROWS])
def test_what_is_read_in_parts_gives_the_gradient_of_the_whole(random_backbone: Path, train: str, rows: int) -> None:
    whole, parts = make(random_backbone, train=train), make(random_backbone, train=train)
    parts.policy.read_at_once(rows)
    assert_close(learned(whole), learned(parts))


@pytest.mark.parametrize("name", CONFIGS)
def test_an_update_without_memory_is_made_in_smaller_parts_and_that_is_said_once(
    random_backbone: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = learned(make(random_backbone, CONFIGS[name], train="all"), updates=3)
    tried = limited(monkeypatch, 4, lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    algorithm = make(random_backbone, CONFIGS[name], train="all")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        parts = learned(algorithm, updates=3)
    assert [str(each.message)[:60] for each in caught if "memory" in str(each.message)] == [
        f"memory did not suffice for {ROWS} rows at a time: from here on t"[:60]
    ]
    assert sum(rows > 4 for rows in tried) <= 3
    assert_close(whole, parts)


def test_where_one_row_is_too_much_the_run_ends_with_what_to_change(
    random_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried 1 byte"
    tried = limited(monkeypatch, 0, lambda: RuntimeError(said))
    with pytest.raises(FaultError, match=r"with 1 rows read at a time on cpu \(.*can't allocate.*batch_size"):
        learned(make(random_backbone, train="all"))
    assert tried == [12, 6, 3, 1]


def test_no_step_is_taken_twice() -> None:
    learner, weight = Learner(device="cpu"), torch.nn.Parameter(torch.ones(3))
    optimizer = learner.optimizer([weight], lr=0.1)

    def work() -> None:
        learner.step(weight.sum(), optimizer, clip=1.0)
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(FaultError, match="memory does not suffice"):
        learner.in_memory(8, work)
    assert torch.allclose(weight, torch.full((3,), 0.9), atol=1e-3)


def test_another_error_is_raised_as_it_is() -> None:
    def work() -> None:
        raise RuntimeError("expected scalar type Long")

    with pytest.raises(RuntimeError, match="scalar type Long"):
        Learner(device="cpu").in_memory(8, work)


def update_in(megabytes: int, backbone: Path) -> None:
    """A program: an update that may take so much address space beyond what the process has."""
    algorithm = make(backbone, train="all")
    batch = bandit(algorithm, 2048, seed=0, images=True)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (megabytes << 20), resource.RLIM_INFINITY))
    metrics = algorithm.update(batch)
    print(f"read {algorithm.policy.trunk.rows_at_once} at a time, loss {float(metrics['actor/improvement']):.4f}")


@pytest.mark.faults
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc")
def test_an_update_goes_on_where_the_kernel_gives_no_more_memory(random_backbone: Path, tmp_path: Path) -> None:
    said = []
    for megabytes in (1 << 20, 300):
        log = tmp_path / f"{megabytes}.log"
        process = launch.start(log, "-m", "tests.runtime.test_out_of_memory", str(megabytes), str(random_backbone))
        process.join(launch.TIMEOUT)
        assert process.exitcode == 0, log.read_text()
        said.append(log.read_text())
    assert "read None at a time" in said[0]
    assert "memory did not suffice" in said[1]
    assert said[0].split("loss")[1] == said[1].split("loss")[-1]


if __name__ == "__main__":
    update_in(int(sys.argv[1]), Path(sys.argv[2]))
