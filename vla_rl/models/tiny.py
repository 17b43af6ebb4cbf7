"""The small vision-language model that ships: stock Idefics3 layers, a stem of convolutions, and a mixing head.

Before the vocabulary, the mixing head adds to each hidden state the image feature that it attends to and the
place where that lies; without it a model this small hardly learns to say where or which (docs/backbone.md).

Shapes: B batch, N visual tokens of all views, T tokens, D width, K width of a key, H height, W width,
R centres along an axis, 2 = (x to the right, y down).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedTokenizerFast
from transformers.models.idefics3.configuration_idefics3 import Idefics3Config
from transformers.models.idefics3.modeling_idefics3 import (
    Idefics3CausalLMOutputWithPast,
    Idefics3ForConditionalGeneration,
)

from vla_rl.models.pointers import cell_centres

PAD, END, IMAGE, ANSWER = "<pad>", "<eos>", "<image>", "<ans>"
LOCATIONS = 32
"""Location tokens `<loc_0>` ... count from the left, or the top, to the right, or the bottom."""
SPECIAL = (PAD, END, IMAGE, "<ptr>", "<self>", ANSWER, *(f"<loc_{i}>" for i in range(LOCATIONS)))
MOST = 192
"""Side of the largest image in pixels. A patch takes the place that it has in the image from a table of 24 x 24, so
that 64 pixels, a third of it, and 96, a half, use every third row of it and every second."""
SIZE = 64
"""Side of the images that it sees unless told otherwise."""
_CENTRES = 32
_FINE = 5
"""Layers of the stem before a pixel is worth 64."""
_EMBEDDED = "model.text_model.embed_tokens.weight"
_ADDING = (".out_proj.", ".o_proj.", ".fc2.", ".down_proj.", ".conv.")
"""Parts of the names of weights whose product is added to a layer's input."""


class VlaTinyConfig(Idefics3Config):
    """An Idefics3 config whose model has the stem and the mixing head.

    composed: how many convolutions of the stem join what neighbouring patches show. refined: how many more than one of
    them tell shapes apart.
    """

    model_type = "vla_tiny"
    composed: int = 0
    refined: int = 0


class VlaSmolLMConfig(VlaTinyConfig):
    """An Idefics3 config whose model has the stem, and no mixing head: its language model is a grown one."""

    model_type = "vla_smollm"


class Refine(nn.Module):
    """A convolution beside a shortcut, where a pixel is worth four: shapes of a few pixels are told apart here."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, 1, 1)

    def forward(self, x_BDHW: torch.Tensor) -> torch.Tensor:
        """float [B, D, H, W] -> the same shape."""
        return torch.relu_(x_BDHW + self.conv(x_BDHW))


class Compose(nn.Module):
    """A convolution beside a shortcut, where a pixel is worth 64: letters are put together to words here."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, 1, 1)

    def forward(self, x_BDHW: torch.Tensor) -> torch.Tensor:
        """float [B, D, H, W] -> the same shape."""
        return x_BDHW + self.conv(torch.relu(x_BDHW))


class Stem(nn.Module):
    """Pixels [B, 3, H, W] -> one vector for each 8 x 8 patch: three convolutions of stride 2, the rest of stride 1."""

    def __init__(self, width: int, composed: int, refined: int) -> None:
        super().__init__()
        self.refine = nn.Sequential(*(Refine(width) for _ in range(refined)))
        self.layers = nn.Sequential(
            nn.Conv2d(3, width // 2, 3, 2, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width // 2, width, 3, 2, 1),
            nn.ReLU(inplace=True),
            Refine(width),
            nn.Conv2d(width, width, 3, 2, 1),
            *(Compose(width) for _ in range(composed)),
        )

    def forward(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        """float [B, 3, H, W] -> [B, D, H / 8, W / 8]."""
        if pixels_B3HW.device.type == "cpu":  # with the colours innermost the first convolution is ten times as fast
            pixels_B3HW = pixels_B3HW.contiguous(memory_format=torch.channels_last)
        x_BDHW = pixels_B3HW
        for number, layer in enumerate(self.layers):  # a slice would be a new module in every pass
            x_BDHW = layer(self.refine(x_BDHW) if number == _FINE else x_BDHW)
        return x_BDHW


class Mix(nn.Module):
    """Adds to each hidden state the visual feature that it attends to and the place where that lies."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, 3 * width)
        self.key = nn.Linear(width, 2 * width)
        self.feature = nn.Linear(width, width)
        self.place = nn.Linear(2 * _CENTRES, width)

    def look(
        self, hidden_BTD: torch.Tensor, visual_BND: torch.Tensor, views: int = 1
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits over cells [B, T, N], place in its view [B, T, 2] in [-1, 1], and attended feature [B, T, D]."""
        B, T, D = hidden_BTD.shape
        visual_BND = self.norm(visual_BND)
        query_BT3K = self.query(hidden_BTD).view(B, T, 3, D)
        key_BNK, inner_BNK = self.key(visual_BND).split(D, -1)
        scale = D**-0.5
        logits_BTN = torch.einsum("btk,bnk->btn", query_BT3K[:, :, 0], key_BNK) * scale
        offset_BTN2 = torch.tanh(torch.einsum("btck,bnk->btnc", query_BT3K[:, :, 1:], inner_BNK) * scale)
        weight_BTN = logits_BTN.softmax(-1)
        side = math.isqrt(visual_BND.shape[1] // views)
        cells_N2 = cell_centres((side, side), visual_BND.device).to(visual_BND.dtype).repeat(views, 1)
        place_BT2 = torch.einsum("btn,btnc->btc", weight_BTN, cells_N2 + offset_BTN2 / side)
        return logits_BTN, place_BT2, weight_BTN @ visual_BND

    def forward(self, hidden_BTD: torch.Tensor, visual_BND: torch.Tensor, views: int = 1) -> torch.Tensor:
        """The hidden states [B, T, D] that the vocabulary reads."""
        _, place_BT2, feature_BTD = self.look(hidden_BTD, visual_BND, views)
        return self.blend(hidden_BTD, place_BT2, feature_BTD)

    def blend(self, hidden_BTD: torch.Tensor, place_BT2: torch.Tensor, feature_BTD: torch.Tensor) -> torch.Tensor:
        """The hidden states [B, T, D] that the vocabulary reads, from what `look` found."""
        centres_R = torch.linspace(-1, 1, _CENTRES, device=place_BT2.device, dtype=place_BT2.dtype)
        near_BT2R = torch.exp(-0.5 * ((place_BT2[..., None] - centres_R) * (_CENTRES / 2)) ** 2)
        return hidden_BTD + self.feature(feature_BTD) + self.place(near_BT2R.flatten(-2))


class VlaSmolLMForConditionalGeneration(Idefics3ForConditionalGeneration):
    """Idefics3 with the stem in place of the linear patches: the tiny backbone's eyes before any language model."""

    config_class: type[VlaTinyConfig] = VlaSmolLMConfig

    def __init__(self, config: VlaTinyConfig) -> None:
        super().__init__(config)
        vision: Any = config.vision_config
        self.model.vision_model.embeddings.patch_embedding = Stem(vision.hidden_size, config.composed, config.refined)


class VlaTinyForConditionalGeneration(VlaSmolLMForConditionalGeneration):
    """The same with `Mix` before the vocabulary."""

    config_class = VlaTinyConfig

    def __init__(self, config: VlaTinyConfig) -> None:
        super().__init__(config)
        self.mix = Mix(config.get_text_config().hidden_size)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> Idefics3CausalLMOutputWithPast:
        """As Idefics3's; `pixel_values` float [B, V, 3, H, W] (needed at every step: the model keeps no cache)."""
        kwargs["return_dict"] = True
        outputs = self.model(input_ids=input_ids, attention_mask=attention_mask, pixel_values=pixel_values, **kwargs)
        hidden_BTD = outputs.last_hidden_state
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        hidden_BTD = hidden_BTD[:, keep]
        if outputs.image_hidden_states is not None:
            B, views = hidden_BTD.shape[0], pixel_values.shape[1] if pixel_values is not None else 1
            visual_BND = outputs.image_hidden_states.reshape(B, -1, hidden_BTD.shape[-1])
            hidden_BTD = self.mix(hidden_BTD, visual_BND, views)
        logits = self.lm_head(hidden_BTD)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.vocab_size)
        return Idefics3CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_hidden_states=outputs.image_hidden_states,
        )


def tiny_tokenizer(texts: Iterable[str] = (), merged: int = 600) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer: its special tokens, all bytes, and up to `merged` parts of `texts`' words.

    Words of `texts` become one token or a few; any other text is read byte by byte. Case is folded.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=len(SPECIAL) + 256 + merged, special_tokens=list(SPECIAL), show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=list(SPECIAL[2:]),
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )


def tiny_config(vocabulary: int, width: int = 64, seeing: int = 4, reading: int = 3) -> VlaTinyConfig:
    """The architecture that ships: `width` wide, `seeing` layers for vision and `reading` for text, patches of 8.

    It sees square images of any multiple of 8 up to MOST pixels.
    """
    vision = {
        "hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": seeing,
        "num_attention_heads": 4, "image_size": MOST, "patch_size": 8, "initializer_range": 0.05,
        "hidden_act": "relu",
    }  # fmt: skip
    text = {
        "model_type": "llama", "hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": reading,
        "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": vocabulary, "pad_token_id": 0,
        "bos_token_id": None, "eos_token_id": 1, "max_position_embeddings": 1024, "initializer_range": 0.02,
        "tie_word_embeddings": True, "use_cache": False,
    }  # fmt: skip
    return VlaTinyConfig(
        vision_config=vision, text_config=text, scale_factor=1, image_token_id=SPECIAL.index(IMAGE),
        tie_word_embeddings=True, use_cache=False, composed=2, refined=1,
    )  # fmt: skip


def initialise(model: VlaTinyForConditionalGeneration) -> None:
    """Set the starting weights that transformers' defaults do not.

    | part | start |
    |---|---|
    | vision transformer | normal 0.05 (its config) |
    | text transformer | normal 0.02 (its config) |
    | stem | Kaiming normal, so that what a patch shows outweighs where it is |
    | connector, mix | PyTorch's defaults |
    | places of patches | sine and cosine of row and column in eighths of the image, times 0.3 |
    """
    embeddings = model.model.vision_model.embeddings
    for part in (model.mix, model.model.connector):
        for module in part.modules():
            if isinstance(module, nn.Linear | nn.LayerNorm):
                module.reset_parameters()
    for module in embeddings.patch_embedding.modules():
        if isinstance(module, nn.Conv2d):
            assert module.bias is not None
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    side, width = embeddings.num_patches_per_side, embeddings.embed_dim
    index = torch.arange(side * side)
    rate = torch.exp(torch.arange(width // 4) * (-math.log(100.0) / (width // 4))) * 8 / side
    axes = (index // side).float(), (index % side).float()
    waves = [wave(axis[:, None] * rate) for axis in axes for wave in (torch.sin, torch.cos)]
    with torch.no_grad():
        embeddings.position_embedding.weight.copy_(0.3 * torch.cat(waves, 1))


def adopt(model: nn.Module, tokenizer: Any, old: nn.Module, old_tokenizer: Any) -> None:
    """Start `model`, which is `initialise`d, from the weights of an `old` one of the same width that knew fewer words
    and places and may have had fewer layers and narrower ones inside: it computes what the old one did.

    A word that both know keeps its row of the embeddings; a new one starts from the mean of the rows of the pieces
    that the old tokenizer reads it as. The places of patches are interpolated. What a new layer, or the new part of
    one, adds to its input starts at zero.
    """
    weights, before = old.state_dict(), old_tokenizer.get_vocab()
    places = "model.vision_model.embeddings.position_embedding.weight"
    weights[places] = _stretched(weights[places], model.state_dict()[places].shape[0])
    table = old.get_input_embeddings().weight  # type: ignore[operator]
    rows = torch.empty(len(tokenizer), table.shape[1])
    for word, row in tokenizer.get_vocab().items():
        text = tokenizer.convert_tokens_to_string([word])
        pieces = [before[word]] if word in before else old_tokenizer(text, add_special_tokens=False).input_ids
        rows[row] = table[pieces].mean(0)
    start = model.state_dict()
    tied = {name for name, value in start.items() if value.data_ptr() == start[_EMBEDDED].data_ptr()}
    model.load_state_dict(
        {name: rows if name in tied else _grown(name, value, weights.get(name)) for name, value in start.items()}
    )


def average(states: Sequence[dict[str, torch.Tensor]], shares: Sequence[float]) -> dict[str, torch.Tensor]:
    """The weights of models, averaged by `shares`, which are divided by their sum. Of models that went on from the same
    weights, each taught something else, the average often does better at all of it (Wortsman et al. 2022, "Model
    soups", arXiv 2203.05482)."""
    averaged, parts = dict(states[0]), [share / sum(shares) for share in shares]
    for name, first in states[0].items():
        if first.is_floating_point():
            averaged[name] = torch.stack([part * state[name] for part, state in zip(parts, states, strict=True)]).sum(0)
    return averaged


def _grown(name: str, fresh: torch.Tensor, old: torch.Tensor | None) -> torch.Tensor:
    """Fresh weights with old ones in their corner; what joins a layer's new parts to what was there is zero."""
    adds = any(part in name for part in _ADDING)
    grown = torch.zeros_like(fresh) if adds else fresh.clone()
    if old is not None:
        grown[tuple(slice(size) for size in old.shape)] = old
    return grown


def _stretched(table: torch.Tensor, rows: int) -> torch.Tensor:
    """A table of places [n * n, D] as one of [m * m, D] over the same image: place i of m is where i * n / m was."""
    side, new = math.isqrt(len(table)), math.isqrt(rows)
    at = (torch.arange(new) * (side / new)).clamp(max=side - 1)
    low, share = at.floor().long(), at.frac()
    high = (low + 1).clamp(max=side - 1)
    grid = table.view(side, side, -1)
    tall = torch.lerp(grid[low], grid[high], share[:, None, None])
    return torch.lerp(tall[:, low], tall[:, high], share[None, :, None]).reshape(rows, -1)


for _config, _model in (
    (VlaTinyConfig, VlaTinyForConditionalGeneration),
    (VlaSmolLMConfig, VlaSmolLMForConditionalGeneration),
):
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
    AutoModelForImageTextToText.register(_config, _model, exist_ok=True)
