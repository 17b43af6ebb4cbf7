"""A policy's folder: config.json, model.safetensors, and `backbone/` with its config and tokenizer.

JSON and safetensors only. Everything that it takes to rebuild the policy is there; nothing is downloaded.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vla_rl import registry
from vla_rl.models.backbone import Backbone
from vla_rl.models.pointers import Pointers
from vla_rl.models.settings import HeadSettings, LoraSettings, PolicySettings
from vla_rl.specs import Mark

if TYPE_CHECKING:
    from vla_rl.models.policy import Policy

FORMAT, VERSION = "vla_rl.policy", 1
_CONFIG, _WEIGHTS, _BACKBONE = "config.json", "model.safetensors", "backbone"


def save(policy: Policy, folder: Path) -> None:
    """Write the folder; what lies there under the same names is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = policy.settings
    backbone = settings.backbone
    config = {
        "format": FORMAT,
        "version": VERSION,
        "backbone": backbone if isinstance(backbone, dict) else registry.describe(backbone, "backbones"),
        "head": dataclasses.asdict(settings.head),
        "train": settings.train,
        "lora": dataclasses.asdict(settings.lora),
        "stack": settings.stack,
        "views": settings.views,
        "key_size": policy.trunk.pointers.key_size,
        "dtype": str(policy.trunk.backbone.model.dtype).removeprefix("torch."),
        "action_space": registry.describe(policy.action_space, "action_spaces"),
        "cameras": list(policy.cameras),
        "state_dim": policy.state_dim,
        "marks": [dataclasses.asdict(mark) for mark in policy.marks],
    }
    policy.trunk.backbone.save_frame(folder / _BACKBONE)
    weights = {name: value.detach().cpu().contiguous() for name, value in _own(policy).items()}
    save_file(weights, folder / _WEIGHTS, metadata={"format": "pt"})
    (folder / _CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def load(folder: Path, plugins: Sequence[str]) -> Policy:
    """Rebuild the policy. See `Policy.from_pretrained`."""
    from vla_rl.models.policy import Policy

    config = _read(folder / _CONFIG)
    settings = PolicySettings(
        backbone=config["backbone"],  # a record only: the weights are here
        head=registry.validated(HeadSettings, config["head"], "head"),
        train=config["train"],
        lora=registry.validated(LoraSettings, config["lora"], "lora"),
        stack=config["stack"],
        views=config["views"],
    )
    action_space = registry.build("action_spaces", config["action_space"], plugins, f"{folder / _CONFIG}: action_space")
    with torch.random.fork_rng(devices=[]):
        backbone = Backbone.from_frame(folder / _BACKBONE, config["dtype"])
        pointers = Pointers(backbone.hidden_size, config["key_size"])
        marks = [registry.validated(Mark, mark, "marks") for mark in config.get("marks", ())]
        policy = Policy(settings, action_space, config["cameras"], config["state_dim"], backbone, pointers, marks)
    load_weights(policy, folder)
    return policy.eval()


def load_weights(policy: Policy, folder: Path) -> None:
    """Copy the folder's weights into the policy.

    Raises:
        ValueError: the file is missing or damaged; weights missing, unexpected or of another shape (named).
    """
    path = folder / _WEIGHTS
    if not path.is_file():
        raise ValueError(f"{folder} lacks {_WEIGHTS}")
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    own = _own(policy)
    wrong = {
        "missing": sorted(own.keys() - weights.keys()),
        "unexpected": sorted(weights.keys() - own.keys()),
        "of another shape": sorted(n for n in own.keys() & weights.keys() if own[n].shape != weights[n].shape),
    }
    said = [f"{what}: {', '.join(names[:8])}" for what, names in wrong.items() if names]
    if said:
        raise ValueError(f"{path} does not fit the policy; {'; '.join(said)}")
    with torch.no_grad():
        for name, value in weights.items():
            own[name].copy_(value)


def _own(policy: Policy) -> dict[str, torch.Tensor]:
    """The policy's weights and buffers; of tensors that share memory (tied embeddings), the first name."""
    own: dict[str, torch.Tensor] = {}
    seen: set[tuple[Any, ...]] = set()
    for name, value in policy.state_dict().items():
        place = (value.data_ptr(), value.shape, value.stride())
        if value.numel() == 0 or place not in seen:
            own[name] = value
        seen.add(place)
    return own


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path.parent} is no policy's folder: it lacks {path.name}")
    try:
        config = json.loads(path.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ValueError(f"{path} is not a policy of vla_rl (format {FORMAT!r})")
    if config.get("version") != VERSION:
        raise ValueError(f"{path} has version {config.get('version')!r}; this vla_rl reads {VERSION}")
    return config
