"""A policy goes to the hub and comes back; and what a stranger's repository may and may not do."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from tests.sharing import stub_hub
from vla_rl import build, config
from vla_rl.paths import sha256_of
from vla_rl.runtime import checkpoint
from vla_rl.sharing.card import card

ROOT = Path(__file__).resolve().parents[2]
SCORES = {
    "per_task": [
        {
            "task_group": "vla_rl/Reach-v0",
            "pc_success": 96.0,
            "pc_success_ci95": [90.2, 98.4],
            "n_episodes": 100,
            "n_invalid": 0,
            "metrics": {"video_paths": ["/home/me/videos/1.mp4"]},
        }
    ],
    "per_group": {"vla_rl/Reach-v0": {"avg_length": 7.25, "video_paths": ["/home/me/videos/1.mp4"]}},
    "per_episode": [{"seed": 1, "video_path": "/home/me/videos/1.mp4"}],
    "about": {"checkpoint": "/home/me/outputs/rl", "acting": "greedy"},
}


@pytest.fixture(scope="module")
def hub() -> Iterator[stub_hub.Hub]:
    with stub_hub.running() as made:
        yield made


@pytest.fixture(scope="module")
def run(random_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with a checkpoint, an evaluation, and things that are nobody's business."""
    folder = tmp_path_factory.mktemp("private") / "run"
    given = ["env=reach", "device=cpu", f"policy.backbone={{type: pretrained, source: '{random_backbone}'}}"]
    own = config.load([*given, f"run_dir={folder}", f"demos.path={folder}/demos", f"train.checkpoint={folder}/before"])
    policy = build.fresh_policy(own, build.env_spec(own))
    saved = checkpoint.save(folder, 7, {"pretrained_model": policy.save_pretrained})
    own.save(folder)
    (folder / "eval_info.json").write_text(json.dumps(SCORES))
    (saved / "pretrained_model" / "notes.txt").write_text("a secret")
    return folder


def done(hub: stub_hub.Hub, home: Path, what: Sequence[Any], **environment: str) -> list[dict[str, Any]]:
    """What came of commands whose hub that is."""
    given = {
        **os.environ,
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(home),
        "HF_TOKEN": stub_hub.TOKEN,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONPATH": str(ROOT),
        **environment,
    }
    script = [sys.executable, str(Path(__file__).with_name("many_commands.py")), json.dumps(what)]
    ended = subprocess.run(script, env=given, cwd=home, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)  # type: ignore[no-any-return]


LOADS = """
import numpy as np, vla_rl
seen = {"observation.state": np.zeros(9, np.float32), "task": "reach the red cube"}
seen |= {f"observation.images.{camera}": np.zeros((64, 64, 3), np.uint8) for camera in ("front", "side")}
assert np.array_equal(vla_rl.load("someone/reaches").act(seen), vla_rl.load("outputs/pulled/someone/reaches").act(seen))
"""


def test_a_policy_goes_to_the_hub_and_comes_back(hub: stub_hub.Hub, run: Path, tmp_path: Path) -> None:
    few = ["eval.episodes=1", "eval.videos=0", "eval.workers=0", "eval.num_envs=1", "env.kwargs.horizon=2"]
    told = done(
        hub,
        tmp_path,
        [
            ["push", str(run), "someone/reaches", "--private"],
            ["push", str(run), "someone/reaches"],
            ["pull", "someone/reaches"],
            LOADS,
            ["eval", "eval.checkpoint=outputs/pulled/someone/reaches", "run_dir=outputs/eval", "device=cpu", *few],
            ["pull", "someone/reaches"],
        ],
    )
    assert [each["code"] for each in told] == [0, 0, 0, 0, 0, 2], told
    assert f"pushed: {hub.address}/someone/reaches/commit/" in told[0]["said"]
    assert "exists already; name another folder" in told[5]["said"]
    files = hub.repositories["someone/reaches"]
    assert "someone/reaches" in hub.private
    saved = checkpoint.locate(run).policy
    names = {path.relative_to(saved).as_posix() for path in saved.rglob("*") if path.is_file()}
    assert set(files) == names - {"notes.txt"} | {"README.md", "eval_info.json", "config.yaml"}
    assert files["model.safetensors"] == (saved / "model.safetensors").read_bytes()
    pulled = tmp_path / "outputs" / "pulled" / "someone" / "reaches"
    assert {path.relative_to(pulled).as_posix() for path in pulled.rglob("*") if path.is_file()} == set(files)
    # Nothing tells of where anything lay.
    for name, content in files.items():
        for place in (str(run.parent), str(ROOT), "/home/me", "a secret", stub_hub.TOKEN, "pytest-of"):
            assert place.encode() not in content, f"{name} tells of {place}"
    front, text = files["README.md"].decode().split("---\n", 2)[1:]
    (result,) = yaml.safe_load(front)["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == 96.0
    assert "| vla_rl/Reach-v0 | 100 | 96.0 % | 90.2 to 98.4 | 7.2 |" in text
    assert 'vla_rl.load("someone/reaches")' in text


def test_nobody_pushes_without_a_token_or_what_is_damaged(hub: stub_hub.Hub, run: Path, tmp_path: Path) -> None:
    saved = checkpoint.locate(run).policy
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in saved.rglob("*"):
        if file.is_file():
            (damaged / file.relative_to(saved)).parent.mkdir(exist_ok=True)
            (damaged / file.relative_to(saved)).write_bytes(file.read_bytes())
    weights = bytearray((damaged / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (damaged / "model.safetensors").write_bytes(weights)
    before = copy.deepcopy(hub.repositories)
    told = done(
        hub,
        tmp_path,
        [
            ["push", str(run), "someone/new"],
            ["push", str(damaged), "someone/new"],
            ["push", str(run), "no-owner"],
            ["push", str(run), "someone/new", "--evaluation", str(saved)],
            ["pull", "someone/unknown"],
        ],
        HF_TOKEN="hf_wrong",
    )
    assert [each["code"] for each in told] == [2] * 5
    assert "cannot be pushed" in told[0]["said"]
    assert "HF_TOKEN, says who you are" in told[0]["said"]
    assert "model.safetensors is damaged" in told[1]["said"]
    assert "expected a repository of the hub, owner/name" in told[2]["said"]
    assert "holds no eval_info.json" in told[3]["said"]
    assert "someone/unknown: cannot be pulled" in told[4]["said"]
    assert hub.repositories == before


def test_a_strangers_repository_is_checked_before_it_lies_anywhere(
    hub: stub_hub.Hub, run: Path, tmp_path: Path
) -> None:
    saved = checkpoint.locate(run).policy
    good = {path.relative_to(saved).as_posix(): path.read_bytes() for path in saved.rglob("*") if path.is_file()}
    asked = yaml.safe_load((run / "config.yaml").read_text())
    asked["env"]["kwargs"] = {"file": "/etc/passwd"}
    code = {"model.py": b"raise SystemExit", "weights.bin": b"\x80\x04.", "pickle.pkl": b"\x80\x04.", "run.sh": b"rm"}
    hub.repositories |= {
        "stranger/more": good | code | {"config.yaml": OmegaConf.to_yaml(asked).encode()},
        "stranger/altered": good | {"model.safetensors": good["model.safetensors"][:-1] + b"\xff"},
        "stranger/unsealed": good | {"config.json": json.dumps({"format": "vla_rl.policy", "version": 1}).encode()},
        "stranger/other": {"config.json": b'{"model_type": "llama"}', "model.safetensors": b""},
        "stranger/empty": {"README.md": b"# nothing"},
        "stranger/outside": good | {"../../outside.json": b"{}"},
        "stranger/absolute": good | {"/etc/outside.json": b"{}"},
        "stranger/huge": good | {"huge.safetensors": b"1"},
    }
    hub.sizes["huge.safetensors"] = 10**12
    names = [name for name in hub.repositories if name.startswith("stranger/")]
    commands: list[Any] = [["pull", name, f"pulled/{name.partition('/')[2]}"] for name in names]
    load = "import vla_rl\ntry:\n    vla_rl.load({!r})\nexcept ValueError as error:\n    print(error)"
    loads = [load.format(name) for name in names]
    hub.asked.clear()
    told = dict(zip([*names, *(f"load {name}" for name in names)], done(hub, tmp_path, commands + loads), strict=True))
    said = {
        "altered": "damaged: altered since it was written",
        "unsealed": "without digests",
        "other": "is not a policy of vla_rl",
        "empty": "it has no config.json",
        "outside": "which does not lie in it",
        "absolute": "which does not lie in it",
        "huge": "at most 1000 of 20 GB are taken",
    }
    for name, words in said.items():
        assert told[f"stranger/{name}"]["code"] == 2
        assert words in told[f"stranger/{name}"]["said"], name
        assert words in told[f"load stranger/{name}"]["said"], name
    assert told["stranger/more"]["code"] == 0
    assert "left out, since a policy needs no such files: model.py" in told["stranger/more"]["said"]
    assert os.listdir(tmp_path / "pulled") == ["more"], "nothing is left of the others"
    pulled = tmp_path / "pulled" / "more"
    assert {path.relative_to(pulled).as_posix() for path in pulled.rglob("*")} & code.keys() == set()
    assert sha256_of(pulled / "model.safetensors") == sha256_of(saved / "model.safetensors")
    for name in (*code, "huge.safetensors", "outside.json"):
        assert not [line for line in hub.asked if name in line], f"{name} was asked for"
    assert not (tmp_path / "outside.json").exists()


def test_a_card_escapes_what_it_is_told() -> None:
    policy = {"cameras": ["a|b"], "stack": 1, "state_dim": 0, "action_space": {"type": "x\n# y"}, "train": "head"}
    scores = copy.deepcopy(SCORES)
    scores["per_task"][0]["task_group"] = "evil | <b>\n# heading"  # type: ignore[index]
    text = card("someone/name", policy | {"backbone": {"type": "tiny"}}, scores, True)
    assert "\n# heading" not in text
    assert "\n# y" not in text
    assert "a\\|b" in text
    assert "None were given" in card("someone/name", policy | {"backbone": {}}, None, False)
