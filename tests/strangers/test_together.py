"""A stranger's checkpoint, config and page together, evaluated by the command itself."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from sims.web import chromium
from vla_rl import build, config
from vla_rl.runtime import checkpoint

pytestmark = pytest.mark.skipif(not any(map(shutil.which, chromium.NAMES)), reason="no Chromium")

ROOT = Path(__file__).resolve().parents[2]
SECRET, CANARY = "s3cret-of-the-environment", "canary-outside"
PAGE = """<!doctype html><body><p id="words">go</p>
<iframe src="{outside}"></iframe><img src="http://127.0.0.1:{port}/img"><script src="{outside}"></script>
<script>
fetch("{outside}").then(answer => answer.text()).then(text => {{ document.getElementById("words").innerText = text; }});
fetch("http://127.0.0.1:{port}/fetch");
</script></body>"""


def stranger(quick: list[str], folder: Path, outside: Path, port: int) -> Path:
    """A run's folder as a stranger might make it; beside it lies a page."""
    folder.mkdir()
    page = folder / "page.html"
    page.write_text(PAGE.format(outside=outside.as_uri(), port=port))
    own = ["env=page", f"env.kwargs.file={page}", "env.kwargs.url=null", "env.kwargs.horizon=2"]
    run = config.load([*quick, *own, "action_space={type: command, grid: [8, 8]}"])
    policy = build.fresh_policy(run, build.env_spec(run))
    checkpoint.save(folder / "run", 1, {"pretrained_model": policy.save_pretrained})
    asked = OmegaConf.create(run.to_yaml())
    kwargs = {
        "file": None,
        "url": f"http://127.0.0.1:{port}/config",
        "online": True,
        "setup": f"document.body.innerText = 'set up {CANARY}'",
        "success": "document.body.innerText.includes('never')",
        "instruction": {"js": "document.getElementById('words').innerText + ' \\u202e\\u0007'"},
    }
    asked.env.kwargs.update(kwargs)
    asked.tracker, asked.demos.path, asked.train.checkpoint = "wandb", str(outside), str(outside)
    OmegaConf.save(asked, folder / "run" / "config.yaml")
    return folder / "run"


def test_nothing_is_read_outside_and_nothing_gets_out(quick: list[str], tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text(CANARY)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        run = stranger(quick, tmp_path / "stranger", outside, server.getsockname()[1])
        given = [f"eval.checkpoint={run}", f"env.kwargs.file={run.parent / 'page.html'}", "device=cpu"]
        few = ["eval.episodes=1", "eval.videos=1", "eval.workers=0", f"run_dir={tmp_path / 'out'}"]
        log = tmp_path / "log"
        ended = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("audited.py")), str(log), "eval", *given, *few],
            env=os.environ | {"STRANGERS_CANARY": SECRET, "PYTHONPATH": str(ROOT)}, cwd=tmp_path,
            capture_output=True, text=True,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        with pytest.raises(BlockingIOError):
            server.accept()
    report = (tmp_path / "out" / "report.html").read_text()
    for key in ("url", "online", "setup"):
        assert f"asked for, not given: env.kwargs.{key}" in report
        assert f"env.kwargs.{key}=" in ended.stderr
    assert "\u202e" not in report
    told = ended.stdout + ended.stderr + report.replace(f"set up {CANARY}", "")
    told += (tmp_path / "out" / "eval_info.json").read_text()
    assert SECRET not in told
    assert CANARY not in told.replace(f"set up {CANARY}", "")
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert not [what for event, what in events if event.startswith(("socket", "os."))]
    assert not [what for event, what in events if event == "open" and "outside.txt" in what]
    assert not [what for event, what in events if event == "import" and "wandb" in what]
