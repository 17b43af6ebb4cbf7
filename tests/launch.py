"""A program in several processes that know of each other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def in_processes(count: int, *arguments: str, **environment: str) -> None:
    """Run a script, or `-m` and a module, with its arguments in `count` processes."""
    # accelerate's own launcher starts one, whatever it is asked for, where there is no GPU.
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]
    variables = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, env=variables, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
