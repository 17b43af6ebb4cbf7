"""A policy's folder: config.json, model.safetensors, and `backbone/` with its config and tokenizer.

JSON and safetensors only. Everything that it takes to rebuild the policy is there; nothing is downloaded.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vla_rl import registry
from vla_rl.config.policy import HeadSettings, LoraSettings, PolicySettings
from vla_rl.models.backbone import Backbone
from vla_rl.models.pointers import Pointers
from vla_rl.specs import ActionSpace, Mark

FORMAT, VERSION = "vla_rl.policy", 1
_CONFIG, _WEIGHTS, _BACKBONE = "config.json", "model.safetensors", "backbone"


@dataclass(frozen=True)
class Frame:
    """All that a policy is made of, but its weights."""

    settings: PolicySettings
    action_space: ActionSpace
    cameras: Sequence[str]
    state_dim: int
    backbone: Backbone
    pointers: Pointers
    marks: Sequence[Mark]


def save(frame: Frame, weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Write the folder; what lies there under the same names is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = frame.settings
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
        "remembers": settings.remembers,
        "key_size": frame.pointers.key_size,
        "dtype": str(frame.backbone.model.dtype).removeprefix("torch."),
        "action_space": registry.describe(frame.action_space, "action_spaces"),
        "cameras": list(frame.cameras),
        "state_dim": frame.state_dim,
        "marks": [dataclasses.asdict(mark) for mark in frame.marks],
    }
    frame.backbone.save_frame(folder / _BACKBONE)
    own = {name: value.detach().cpu().contiguous() for name, value in _once(weights).items()}
    save_file(own, folder / _WEIGHTS, metadata={"format": "pt"})
    (folder / _CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def load_frame(folder: Path, plugins: Sequence[str]) -> Frame:
    """What `save` wrote, its weights fresh. See `Policy.from_pretrained`."""
    config = _read(folder / _CONFIG)
    settings = PolicySettings(
        backbone=config["backbone"],  # a record only: the weights are here
        head=registry.validated(HeadSettings, config["head"], "head"),
        train=config["train"],
        lora=registry.validated(LoraSettings, config["lora"], "lora"),
        stack=config["stack"],
        views=config["views"],
        remembers=config.get("remembers", False),
    )
    action_space = registry.build("action_spaces", config["action_space"], plugins, f"{folder / _CONFIG}: action_space")
    backbone = Backbone.from_frame(folder / _BACKBONE, config["dtype"])
    return Frame(
        settings=settings,
        action_space=action_space,
        cameras=config["cameras"],
        state_dim=config["state_dim"],
        backbone=backbone,
        pointers=Pointers(backbone.hidden_size, config["key_size"]),
        marks=[registry.validated(Mark, mark, "marks") for mark in config.get("marks", ())],
    )


def load_weights(weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Copy the folder's weights into those of a policy, as its `state_dict` names them.

    Raises:
        ValueError: the file is missing or damaged; weights missing, unexpected or of another shape (named).
    """
    path = folder / _WEIGHTS
    if not path.is_file():
        raise ValueError(f"{folder} lacks {_WEIGHTS}")
    try:
        saved = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    own = _once(weights)
    wrong = {
        "missing": sorted(own.keys() - saved.keys()),
        "unexpected": sorted(saved.keys() - own.keys()),
        "of another shape": sorted(n for n in own.keys() & saved.keys() if own[n].shape != saved[n].shape),
    }
    said = [f"{what}: {', '.join(names[:8])}" for what, names in wrong.items() if names]
    if said:
        raise ValueError(f"{path} does not fit the policy; {'; '.join(said)}")
    with torch.no_grad():
        for name, value in saved.items():
            own[name].copy_(value)


def _once(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights and buffers; of tensors that share memory (tied embeddings), the first name."""
    own: dict[str, torch.Tensor] = {}
    seen: set[tuple[Any, ...]] = set()
    for name, value in weights.items():
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
