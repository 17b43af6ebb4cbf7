"""A policy's folder: config.json, model.safetensors, and `backbone/` with its config and tokenizer.

JSON and safetensors only. Everything that it takes to rebuild the policy is there; nothing is downloaded.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from vla_rl import registry
from vla_rl.config.policy import (
    BEFORE_PARTS,
    MOST_VIEWS,
    MOST_WIDTH,
    HeadSettings,
    LoraSettings,
    PolicySettings,
    Remembers,
    Trainable,
)
from vla_rl.models import bounds
from vla_rl.models.backbone import Backbone
from vla_rl.models.pointers import Pointers
from vla_rl.models.shards import take
from vla_rl.paths import check_digests, digests_in, sealed
from vla_rl.specs import ActionSpace, Mark

FORMAT, VERSION = "vla_rl.policy", 1
_CONFIG, _WEIGHTS, _BACKBONE = "config.json", "model.safetensors", "backbone"


M = TypeVar("M", bound=nn.Module)
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class _Told:
    """What `config.json` tells of a policy."""

    backbone: dict[str, Any]
    head: dict[str, Any]
    train: Trainable
    lora: dict[str, Any]
    stack: int
    views: Literal["apart", "together"]
    key_size: int
    dtype: Literal["float64", "float32", "bfloat16", "float16"]
    action_space: dict[str, Any]
    cameras: list[str]
    state_dim: int
    marks: list[dict[str, Any]] = field(default_factory=list)
    remembers: Remembers = False
    grounded: bool = True
    twice: bool = False

    def __post_init__(self) -> None:
        if not (
            1 <= self.key_size <= MOST_WIDTH and 0 <= self.state_dim <= MOST_WIDTH and len(self.cameras) <= MOST_VIEWS
        ):
            raise ValueError(
                f"key_size, state_dim: at most {MOST_WIDTH}, cameras: at most {MOST_VIEWS}; got {self.key_size}, "
                f"{self.state_dim}, {len(self.cameras)}"
            )


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
        "grounded": frame.pointers.grounded,
        "twice": frame.pointers.second is not None,
        "dtype": str(frame.backbone.model.dtype).removeprefix("torch."),
        "action_space": registry.describe(frame.action_space, "action_spaces"),
        "cameras": list(frame.cameras),
        "state_dim": frame.state_dim,
        "marks": [dataclasses.asdict(mark) for mark in frame.marks],
    }
    frame.backbone.save_frame(folder / _BACKBONE)
    own = {name: value.detach().cpu().contiguous() for name, value in _once(weights).items()}
    save_file(own, folder / _WEIGHTS, metadata={"format": "pt"})
    files = [folder / _WEIGHTS, *sorted(path for path in (folder / _BACKBONE).rglob("*") if path.is_file())]
    (folder / _CONFIG).write_text(json.dumps(sealed(config, folder, files), indent=2) + "\n", "utf-8")


def verify(folder: Path) -> None:
    """Hold a policy's folder against the digests that its `config.json` tells.

    Raises:
        ValueError: a file is missing or altered; or there are no digests, since an older version wrote it, and it does
            not lie in its run either, whose manifest has them. Names the file.
    """
    path = folder / _CONFIG
    digests = digests_in(path, read_config(folder))
    if digests is None:
        if not (folder.parent / "manifest.json").is_file():
            raise ValueError(
                f"{path}: an older version wrote it, without digests, so that damage cannot be told: name it in its "
                "run's folder, or trust it by Policy.from_pretrained(folder, verify=False), and save it anew"
            )
        return
    check_digests(folder, digests)


def load(make: Callable[..., M], folder: Path, plugins: Sequence[str], verified: bool) -> M:
    """A policy, or the like, of the folder's frame, its weights fresh: made once it is known to take no more memory.

    verified: hold the files against their digests first.

    Raises:
        ValueError: a file is missing or damaged; the frame asks for what lies elsewhere, or for other weights than
            these; or nothing can be made of it.
    """
    if verified:
        verify(folder)
    weights, backbone = folder / _WEIGHTS, folder / _BACKBONE / "config.json"
    read_config(folder)
    for path in (weights, backbone):
        if not path.is_file():
            raise ValueError(f"{folder} lacks {path.relative_to(folder)}")
    bounds.check_config(backbone, [weights])
    try:
        with bounds.without_memory(bounds.size_of([weights]), folder):
            empty = make(**vars(load_frame(folder, plugins)))
    except ValueError:
        raise
    except Exception as error:  # what transformers says to values that nobody foresaw
        raise ValueError(f"{folder}: no policy can be made of its config: {type(error).__name__}: {error}") from error
    own = {name: tuple(value.shape) for name, value in empty.state_dict().items()}
    _refuse(weights, own, bounds.shapes(weights), missing=())
    return make(**vars(load_frame(folder, plugins)))


def action_space(folder: Path, plugins: Sequence[str]) -> ActionSpace:
    """That of a policy's folder."""
    path = f"{folder / _CONFIG}: action_space"
    return registry.build("action_spaces", read_config(folder).get("action_space"), plugins, path)


def load_frame(folder: Path, plugins: Sequence[str]) -> Frame:
    """What `save` wrote, its weights fresh. See `Policy.from_pretrained`."""
    path, known = folder / _CONFIG, registry.parameters(_Told)
    values = {name: value for name, value in read_config(folder).items() if name in known}
    told: _Told = registry.validated(_Told, values, str(path))
    settings = PolicySettings(
        backbone=told.backbone,  # a record only: the weights are here
        head=registry.validated(HeadSettings, told.head, "head"),
        train=told.train,
        lora=registry.validated(LoraSettings, told.lora if "parts" in told.lora else BEFORE_PARTS | told.lora, "lora"),
        stack=told.stack,
        views=told.views,
        remembers=told.remembers,
    )
    action_space = registry.build("action_spaces", told.action_space, plugins, f"{path}: action_space")
    backbone = Backbone.from_frame(folder / _BACKBONE, told.dtype)
    pointers = Pointers(backbone.hidden_size, told.key_size, told.twice)
    pointers.grounded = told.grounded
    return Frame(
        settings=settings,
        action_space=action_space,
        cameras=told.cameras,
        state_dim=told.state_dim,
        backbone=backbone,
        pointers=pointers,
        marks=[registry.validated(Mark, mark, "marks") for mark in told.marks],
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
    there, wanted = ({name: tuple(value.shape) for name, value in each.items()} for each in (saved, own))
    _refuse(path, wanted, there, missing=wanted.keys() - there.keys())
    for name, value in saved.items():
        take(own[name], value)


def _refuse(path: Path, own: Shapes, saved: Shapes, missing: Collection[str]) -> None:
    """Raise ValueError where a file's weights are not a policy's."""
    wrong = {
        "missing": sorted(missing),
        "unexpected": sorted(saved.keys() - own.keys()),
        "of another shape": sorted(name for name in own.keys() & saved.keys() if own[name] != saved[name]),
    }
    said = [f"{what}: {', '.join(names[:8])}" for what, names in wrong.items() if names]
    if said:
        raise ValueError(f"{path} does not fit the policy; {'; '.join(said)}")


def _once(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights and buffers; of tensors that share memory (tied embeddings), the first name."""
    own: dict[str, torch.Tensor] = {}
    seen: set[tuple[Any, ...]] = set()
    for name, value in weights.items():
        place = (value.data_ptr(), value.shape, value.stride())
        if value.numel() == 0 or value.data_ptr() == 0 or place not in seen:  # 0: dealt out, and then not tied
            own[name] = value
        seen.add(place)
    return own


def read_config(folder: Path) -> dict[str, Any]:
    """What `config.json` says. Raises ValueError where there is none, or a damaged one, or one of another version."""
    path = folder / _CONFIG
    if not path.is_file():
        raise ValueError(f"{path.parent} is no policy's folder: it lacks {path.name}")
    try:
        config = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ValueError(f"{path} is not a policy of vla_rl (format {FORMAT!r})")
    if config.get("version") != VERSION:
        raise ValueError(f"{path} has version {config.get('version')!r}; this vla_rl reads {VERSION}")
    return config
