"""Every number of a config made huge: the run is refused in a screen of text, or made, in bounded time and memory."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import launch
from tests.fakes import LINE
from tests.strangers.damage import BYTES, PATIENCE, SCREEN, SECONDS, memory
from tests.strangers.test_fuzz import leaves
from vla_rl import config, train_state

HUGE = (10**6, 10**9, 10**18)


def came_of(values: dict[str, Any], folder: Path) -> str:
    """What making a run of a config comes to."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            train_state.make(config.loading.validate(values), folder).close()
    except (ValueError, OSError) as error:
        return "refused" if len(str(error)) < SCREEN else f"wrong: it says too much: {str(error)[:SCREEN]}"
    except Exception as error:
        return f"wrong: {type(error).__name__}: {str(error)[:SCREEN]}"
    return "made"


def alone(values: dict[str, Any], folder: Path) -> str:
    """The same in a process of its own, which the kernel ends where it takes too much."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_AS, (memory() + BYTES, resource.RLIM_INFINITY))
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        os.write(writes, came_of(values, folder).encode())
        os._exit(0)
    os.close(writes)
    with os.fdopen(reads) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    return said if status == 0 else f"wrong: it took {SECONDS} s, {BYTES} bytes or the process ({status})"


def main(folder: Path, *overrides: str) -> None:
    """Make a run of each such config; says what was wrong, and how many there were."""
    torch.set_num_threads(1)  # a child that is forked beside others may wait for what they held
    honest = config.load(overrides)
    assert came_of(honest.model_dump(mode="json"), folder) == "made", "PyTorch has its memory"
    count = 0
    for path in leaves(honest.model_dump(mode="json")):
        content = json.loads(json.dumps(honest.model_dump(mode="json")))
        holder = content
        for key in path[:-1]:
            holder = holder[key]
        if isinstance(holder[path[-1]], (bool, str, list, dict)):
            continue
        for value in HUGE:
            holder[path[-1]] = value
            count += 1
            if "wrong" in (came := alone(content, folder)):
                print(f"{'.'.join(map(str, path))}={value}: {came}")
    print(f"{count} were tried")


@pytest.mark.faults
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc")
def test_a_huge_number_of_any_key_is_refused_or_takes_bounded_time_and_memory(line: list[str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    own = [*line, f"env.id={LINE}", "plugins=[tests.fakes]"]
    process = launch.start(log, "-m", "tests.strangers.test_huge_numbers", str(tmp_path / "run"), *own)
    process.join(PATIENCE)
    process.kill()
    said = log.read_text()
    assert process.exitcode == 0, said
    assert "wrong" not in said, said
    assert int(said.splitlines()[-1].split()[0]) > 200


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
