"""What scripts/gpu.sh measures can be measured; numbers of a GPU are claimed by none but a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vla_rl.bench import gpu


def test_what_was_not_measured_on_a_gpu_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "acting.json").write_text(json.dumps({"device_type": "cpu", "decisions_per_s_b1": 7.0}))
    told = {"device_type": "cuda", "updates_per_s": 12.5, "peak_gib": 9.25, "plan_gib": None}
    (tmp_path / "lora.json").write_text(json.dumps(told))
    lines = gpu.table(tmp_path).splitlines()
    assert "| `tiny`, batch 1: decisions/s as they are | not yet measured |" in lines
    assert "| LoRA, SmolVLM-256M's shape, 512 pixels: updates/s | 12.50 |" in lines
    assert "| `vla-rl plan` says, GiB | - |" in lines


@pytest.mark.slow
@pytest.mark.parametrize("part", gpu.PARTS)
def test_each_part_works_small(part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main([part, str(tmp_path), "--small"])
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((tmp_path / f"{part}.json").read_text())
    assert told["small"]
    assert all(value for key, value in told.items() if key.startswith("same_decisions"))
    assert all(value > 0 for key, value in told.items() if key.endswith("per_s"))
