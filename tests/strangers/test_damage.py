"""Random damage of all that is saved: refused by name, passed over for an older one, salvaged; or it does nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests import launch
from tests.fakes import LINE
from tests.strangers.damage import BYTES, PATIENCE, SECONDS, WAYS, files_of
from tests.strangers.test_datasets import SHAPE, episode
from vla_rl import config, train
from vla_rl.data import demos
from vla_rl.data.demos import Demonstrations
from vla_rl.export import export
from vla_rl.runtime import checkpoint

DAMAGES = {"run": 600, "evaluated": 200, "policy": 300, "demonstrations": 300, "dataset": 300, "backbone": 300}
"""How many of each kind; 2000 together."""
BATCH = 300


@pytest.fixture(scope="module")
def saved(random_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each kind, as it is saved."""
    folder = tmp_path_factory.mktemp("saved")
    run = folder / "run"
    train.train(
        config.load(
            [
                "experiment=smoke",
                "device=cpu",
                f"policy.backbone={{type: pretrained, source: '{random_backbone}'}}",
                f"env.id={LINE}",
                "env.sensors=null",
                "demos.episodes=0",
                f"demos.path={folder}/none",
                "algorithm.demo_share=0",
                "algorithm.mc_weight=0.5",
                "algorithm.warmup_updates=2",
                "algorithm.batch_size=16",
                "algorithm.actor_batch_size=8",
                "algorithm.critic_width=16",
                "train.workers=0",
                "train.steps=96",
                "train.save_every=48",
                "train.keep=2",
                "tracker=null",
                f"run_dir={run}",
            ]
        )
    )
    last = checkpoint.policy_folder(run)
    own = demos.save(Demonstrations((episode(3), episode(5), episode(2)), SHAPE, {"env": "x"}), folder / "demos")
    export(own, folder / "dataset")
    return {
        "run": run,
        "evaluated": run,
        "policy": last,
        "demonstrations": own,
        "dataset": folder / "dataset",
        "backbone": random_backbone,
    }


def outcomes(kind: str, whole: Path, folder: Path, indices: range) -> Counter[str]:
    """What came of damages, done by processes of their own to copies."""
    found: Counter[str] = Counter()
    for first in range(indices.start, indices.stop, BATCH):
        last, out, log = min(first + BATCH, indices.stop), folder / f"{first}.jsonl", folder / f"{first}.log"
        copy = folder / f"{first}" / whole.name
        copy.parent.mkdir()
        subprocess.run(["cp", "-a", whole, copy], check=True)  # files of one inode stay so
        process = launch.start(log, "-m", "tests.strangers.damage", kind, str(copy), str(first), str(last), str(out))
        process.join(PATIENCE)
        process.kill()
        lines = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
        assert process.exitcode == 0, f"{lines[-1:]} took {SECONDS} s, {BYTES} bytes or the process\n{log.read_text()}"
        pairs = list(zip(lines[::2], lines[1::2], strict=True))
        wrong = [f"{done['damage']}: {came['outcome']}" for done, came in pairs if "wrong" in came["outcome"]]
        assert not wrong, "\n".join(wrong)
        found += Counter(came["outcome"] for _, came in pairs)
        shutil.rmtree(copy.parent)
    assert found.total() == len(indices)
    return found


@pytest.mark.parametrize("kind", DAMAGES)
def test_some_random_damages_are_refused_passed_over_or_change_nothing(
    kind: str, saved: dict[str, Path], tmp_path: Path
) -> None:
    found = outcomes(kind, saved[kind], tmp_path, range(2 * len(files_of(saved[kind]))))
    assert found["the same"] < found.total() / (1 if kind == "evaluated" else 5), found  # which reads no replay


@pytest.mark.faults
@pytest.mark.parametrize("kind", DAMAGES)
def test_two_thousand_random_damages_are_refused_passed_over_or_change_nothing(
    kind: str, saved: dict[str, Path], tmp_path: Path
) -> None:
    count = DAMAGES[kind]
    assert count >= len(WAYS) * len(files_of(saved[kind])), "each file in each way"
    found = outcomes(kind, saved[kind], tmp_path, range(count))
    print(kind, dict(found))
    assert found["the same"] < found.total() / (1 if kind == "evaluated" else 20), found  # which reads no replay
