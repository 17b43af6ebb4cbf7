"""A stranger's policy or backbone: no more memory than its weights take, no pickle, no file elsewhere, no damage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unsealed import unsealed
from vla_rl.actions.binned import Binned
from vla_rl.config.policy import PolicySettings
from vla_rl.models.backbone import Backbone
from vla_rl.models.policy import Policy
from vla_rl.models.settings import Pretrained


@pytest.fixture(scope="module")
def saved(random_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy's folder."""
    folder = tmp_path_factory.mktemp("policy")
    space = Binned(bins=(3, 3), low=(-1.0, -1.0), high=(1.0, 1.0), shape=(2,), dtype="float32")
    settings = PolicySettings(Pretrained(str(random_backbone)))
    Policy.build(settings, space, ["front"], 3, seed=0).save_pretrained(folder)
    return folder


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def long_chunk(inner: dict[str, Any]) -> dict[str, Any]:
    return {"type": "chunk", "inner": inner, "horizon": 10**9}


@pytest.mark.parametrize(
    ("file", "change", "why"),
    [
        ("backbone/config.json", lambda c: c["text_config"].update(hidden_size=2**20), "more weights than its"),
        ("backbone/config.json", lambda c: c["text_config"].update(hidden_size=2**40), "is too much"),
        ("backbone/config.json", lambda c: c["text_config"].update(num_hidden_layers=10**9), "num_hidden_layers"),
        ("backbone/config.json", lambda c: c["text_config"].update(vocab_size=10**7), "more weights than its"),
        ("backbone/config.json", lambda c: c["vision_config"].update(model_type="timm_wrapper"), "another place"),
        ("backbone/config.json", lambda c: c.update(transformers_weights="../x.bin"), "transformers_weights"),
        ("backbone/config.json", lambda c: c.update(_attn_implementation="stranger/kernel"), "another place"),
        ("backbone/config.json", lambda c: c.update(model_type="llama"), "not supported"),
        ("backbone/tokenizer_config.json", lambda c: c.update(vocab_file="/etc/passwd"), "names the file"),
        ("config.json", lambda c: c.update(stack=10**9), "stack must lie in"),
        ("config.json", lambda c: c.update(state_dim=10**9), "state_dim"),
        ("config.json", lambda c: c.update(state_dim=10**6), r"does not fit|more weights"),
        ("config.json", lambda c: c.update(dtype="save"), "dtype"),
        ("config.json", lambda c: c.pop("cameras"), "cameras: missing"),
        ("config.json", lambda c: c["head"].update(width=2**30), "width"),
        ("config.json", lambda c: c["head"].update(depth=10**9), "depth"),
        ("config.json", lambda c: c["action_space"].update(bins=[10**9, 3]), "bins"),
        ("config.json", lambda c: c.update(action_space=long_chunk(c["action_space"])), "horizon"),
    ],
)  # fmt: skip
def test_a_policy_that_asks_for_more_is_refused_before_it_is_made(
    saved: Path, tmp_path: Path, file: str, change: Callable[[dict[str, Any]], object], why: str
) -> None:
    folder = shutil.copytree(saved, tmp_path / "policy")
    edit(folder / file, change)
    with pytest.raises(ValueError, match="is damaged: altered"):
        Policy.from_pretrained(folder)
    with pytest.raises(ValueError, match=why):
        Policy.from_pretrained(folder, verify=False)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda c: c["text_config"].update(hidden_size=2**20), "more weights than its"),
        (lambda c: c["text_config"].update(num_hidden_layers=10**9), "num_hidden_layers"),
        (lambda c: c["text_config"].update(intermediate_size=2**24), "more weights than its"),
        (lambda c: c["vision_config"].update(image_size=2**20), "more weights than its"),
        (lambda c: c.update(model_type="llama"), "not supported"),
    ],
)
def test_a_backbone_that_asks_for_more_is_refused_before_it_is_made(
    random_backbone: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], why: str
) -> None:
    folder = unsealed(shutil.copytree(random_backbone, tmp_path / "backbone"))
    edit(folder / "config.json", change)
    with pytest.raises(ValueError, match=why):
        Backbone.load(folder)


def test_a_pickle_is_no_backbone(random_backbone: Path, tmp_path: Path) -> None:
    folder = unsealed(shutil.copytree(random_backbone, tmp_path / "backbone"))
    torch.save(Backbone.load(folder).model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="never from a pickle"):
        Backbone.load(folder)


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "pytorch_model.bin"])
def test_an_index_names_safetensors_beside_it_only(random_backbone: Path, tmp_path: Path, name: str) -> None:
    folder = unsealed(shutil.copytree(random_backbone, tmp_path / "backbone"))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ValueError, match="is no file of safetensors beside it"):
        Backbone.load(folder)


def test_adapters_of_another_model_are_no_backbone(random_backbone: Path, tmp_path: Path) -> None:
    folder = unsealed(shutil.copytree(random_backbone, tmp_path / "backbone"))
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/etc"}))
    with pytest.raises(ValueError, match="lies elsewhere"):
        Backbone.load(folder)


def test_every_flipped_bit_of_a_policy_that_stands_alone_is_seen(saved: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved, tmp_path / "policy")
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = file.read_bytes()
        for at in {0, len(content) // 3, len(content) // 2, len(content) - 2}:
            damaged = bytearray(content)
            damaged[at] ^= 1
            file.write_bytes(damaged)
            with pytest.raises(ValueError, match=r"damaged|not a policy|has version|altered"):
                Policy.from_pretrained(folder)
        file.write_bytes(content)
    Policy.from_pretrained(folder)


def test_a_policy_without_digests_is_trusted_by_name_only(saved: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved, tmp_path / "run" / "pretrained_model")
    edit(folder / "config.json", lambda told: [told.pop(key) for key in ("files", "sha256")])
    with pytest.raises(ValueError, match="an older version wrote it, without digests"):
        Policy.from_pretrained(folder)
    Policy.from_pretrained(folder, verify=False).save_pretrained(tmp_path / "anew")
    Policy.from_pretrained(tmp_path / "anew")
    (folder.parent / "manifest.json").touch()  # that of its generation, which `locate` holds it against
    Policy.from_pretrained(folder)
