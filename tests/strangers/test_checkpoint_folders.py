"""What a stranger's checkpoint says of its own files; and readers of a run that goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vla_rl.paths import sha256_of_json
from vla_rl.runtime import checkpoint, generations
from vla_rl.runtime.generations import DamagedError


def write(folder: Path) -> None:
    (folder / "weights").write_bytes(b"1")


def generation(run: Path, step: int = 1, keep: int | None = None) -> Path:
    return checkpoint.save(run, step, {"pretrained_model": write}, keep=keep)


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "pretrained_model/../../../secret", "/dev/zero", ""])
def test_a_manifest_lists_no_file_outside_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("secret")
    folder = generation(tmp_path / "run")
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["sha256"]
    manifest["files"][name] = {"bytes": 6, "sha256": "0" * 64}
    (folder / "manifest.json").write_text(json.dumps(manifest | {"sha256": sha256_of_json(manifest)}))
    with pytest.raises(DamagedError, match="does not lie in the checkpoint"):
        checkpoint.locate(tmp_path / "run")


def test_the_last_checkpoint_lies_in_its_run(tmp_path: Path) -> None:
    elsewhere = generation(tmp_path / "other", 2)
    own = generation(tmp_path / "run", 1)
    (own.parent / "last").unlink()
    (own.parent / "last").symlink_to(elsewhere)
    assert checkpoint.last(tmp_path / "run") == own


def test_a_reader_follows_a_run_that_moves_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run saves, and deletes the checkpoint before, between a reader's finding it and its reading it."""
    steps = iter(range(2, 5))
    generation(tmp_path, 1)
    honest = generations.verify

    def late(folder: Path, experience: bool = True) -> None:
        for step in steps:
            monkeypatch.setattr(generations, "verify", honest)  # saving asks it, too
            generation(tmp_path, step, keep=1)
            monkeypatch.setattr(generations, "verify", late)
            break
        honest(folder, experience)

    monkeypatch.setattr(generations, "verify", late)
    place = checkpoint.locate(tmp_path)
    assert place.generation == checkpoint.Generation(tmp_path / "checkpoints" / "000004", 4)


def test_damage_of_a_run_that_stands_still_is_told_at_once(tmp_path: Path) -> None:
    folder = generation(tmp_path)
    (folder / "pretrained_model" / "weights").unlink()
    with pytest.raises(DamagedError, match="weights: missing"):
        checkpoint.locate(tmp_path)
