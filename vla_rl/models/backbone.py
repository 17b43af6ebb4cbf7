"""One wrapper around any `AutoModelForImageTextToText`: views and an instruction in, token sequence out.

The sequence: the image tokens of each view, the instruction, `<ptr>` x MENTIONS, `<self>`, padding on the right.

Shapes: B batch, V views, N visual tokens of a view, T tokens of the sequence, S slots (MENTIONS + 1),
D width of the language model, H height, W width (of words_BW: words of the longest instruction).
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer

from vla_rl.models import bounds
from vla_rl.models import tiny as _tiny  # noqa: F401 - makes its classes known to the Auto classes
from vla_rl.models.clauses import ClauseTexts, clause_features
from vla_rl.models.families import attention_of, check_takes_pictures, family_of
from vla_rl.models.folders import (
    IMAGE_SIZE,
    PREPROCESSOR,
    STYLE,
    TILES,
    pictures_of,
    preprocessor_of,
    quiet,
    refuse_strangers,
)
from vla_rl.models.image_sizes import image_size_of
from vla_rl.models.pointers import MENTIONS, SLOTS
from vla_rl.models.prompts import (
    Prompt,
    PromptStyle,
    chat_frame,
    find_chat_template,
    framed_image,
    last_tokens,
    plain_frame,
)
from vla_rl.models.sight import check_sees
from vla_rl.models.slot_tokens import POINTER_TOKEN, SELF_TOKEN, add_slot_tokens
from vla_rl.models.tiles import look as look_at_tiles
from vla_rl.models.transfer import sent
from vla_rl.paths import SUMS, write_sums
from vla_rl.specs import kept_text

TEXT_LIMIT = 512
"""Most tokens of an instruction, whatever the model could read."""
_CACHED_TEXTS, _CACHED_PROMPTS = 4096, 64


@dataclass
class Encoded:
    """What the backbone makes of views and instructions, in the backbone's dtype."""

    tokens_BTD: torch.Tensor
    """Last hidden states."""
    mask_BT: torch.Tensor
    """int64; 0 on the padding."""
    visual_BVND: torch.Tensor
    """The image tokens before the language model."""
    slots_BSD: torch.Tensor
    """Last hidden states of the slots."""


@dataclass(frozen=True)
class _Tokenised:
    """The token ids of an instruction, and which of them ends each of its words."""

    ids: list[int]
    words: list[int]


class Backbone(nn.Module):
    """A vision-language model, its tokenizer, and how it wants its pixels.

    Attributes:
        hidden_size: D.
        grid: visual tokens of one view, (rows, columns).
        image_size: side in pixels of the square images that `forward` takes.
        tiles: along a side of them, each of which is seen as a picture, and the whole image beside them; 1: it alone.
        mean, std: of each channel, for `processor.pixels_to_floats`.
        source: the folder or hub id that it was loaded from.
        prompt_style: what stands around the instruction, see `prompts`.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        image_size: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        prompt_style: PromptStyle = "plain",
        tiles: int = 1,
    ) -> None:
        super().__init__()
        config = model.config
        self._family = family_of(config)
        check_takes_pictures(model)
        self.model, self.tokenizer = model, tokenizer
        self.hidden_size: int = config.get_text_config().hidden_size
        self.image_size, self.tiles = image_size_of(config, image_size, tiles), tiles
        side = self._family.side(config, self.image_size // tiles) * tiles
        self.grid = (side, side)
        self.mean, self.std = tuple(mean or self._family.mean), tuple(std or self._family.std)
        self.source: str | None = None
        self.prompt_style: PromptStyle = prompt_style
        self._image_token = _image_token(config)
        add_slot_tokens(model, tokenizer)
        self._vocabulary: dict[str, int] = tokenizer.get_vocab()
        self._frames: dict[int, tuple[list[int], list[int]]] = {}
        self._texts: OrderedDict[str, _Tokenised] = OrderedDict()
        self._prompts: OrderedDict[tuple, Prompt] = OrderedDict()
        self._clauses: ClauseTexts | None = None
        self._siblings: dict[int, Backbone] = {}  # in a dict, so that theirs are not parameters of this one too

    @classmethod
    def load(
        cls,
        source: str | Path,
        image_size: int | None = None,
        dtype: str = "float32",
        prompt_style: PromptStyle | None = None,
        tiles: int | None = None,
    ) -> Backbone:
        """Load a local folder or a hub id. Never runs code that comes with the weights.

        image_size, prompt_style, tiles: None: as the folder says that it was taught; else as the model was trained,
            plain, and without tiles.

        Raises:
            ValueError: no such folder, or a hub id that is neither cached nor to be had; the weights lack what
                the model needs, or hold what it does not know (named); a family without support; an image
                size that the model cannot see; a model that two pictures are one to. The family and the size are
                looked at before any weight is loaded.
        """
        source = str(source)
        with quiet(source):
            config = bounds.check_source(source)
            stated = preprocessor_of(source)
            wanted, tiles = pictures_of(stated, image_size, tiles)
            size = image_size_of(config, wanted, tiles)
            loaded: Any = AutoModelForImageTextToText.from_pretrained(
                source,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # so that they are named below, with the others
                trust_remote_code=False,
                attn_implementation=attention_of(config),
                dtype=getattr(torch, dtype),
            )
        model, info = loaded
        refuse_strangers(source, info)
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        style = prompt_style or stated.get(STYLE, "plain")
        if style == "chat":
            find_chat_template(tokenizer, source)
        backbone = cls(model, tokenizer, size, stated.get("image_mean"), stated.get("image_std"), style, tiles)
        backbone.eval()
        backbone.source = source
        check_sees(backbone)
        return backbone

    @classmethod
    def from_config(
        cls, config: Any, tokenizer: Any, image_size: int | None = None, dtype: str = "float32", tiles: int = 1
    ) -> Backbone:
        """Random weights of a transformers config; nothing is downloaded."""
        model = AutoModelForImageTextToText.from_config(
            config, attn_implementation=attention_of(config), dtype=getattr(torch, dtype), trust_remote_code=False
        )
        return cls(model, tokenizer, image_size, tiles=tiles).eval()

    @classmethod
    def from_frame(cls, folder: str | Path, dtype: str = "float32") -> Backbone:
        """What `save_frame` wrote, with random weights for the caller to fill. Never asks the hub.

        Raises:
            ValueError: not such a folder.
        """
        folder = Path(folder)
        if not (folder / "config.json").is_file():
            raise ValueError(f"{folder} lacks config.json")
        bounds.check_tokenizer(folder)
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        family_of(config)
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        stated = preprocessor_of(str(folder))
        backbone = cls.from_config(config, tokenizer, stated.get(IMAGE_SIZE), dtype, stated.get(TILES, 1))
        backbone.mean, backbone.std = tuple(stated["image_mean"]), tuple(stated["image_std"])
        backbone.prompt_style = stated.get(STYLE, "plain")
        return backbone

    def save(self, folder: str | Path) -> None:
        """Write config, weights, tokenizer and the preprocessor's numbers; `load` gives identical outputs."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SUMS).unlink(missing_ok=True)
        with quiet(folder):
            self.model.save_pretrained(folder)
        self.save_frame(folder)
        write_sums(folder, [path.name for path in folder.iterdir() if path.is_file()])

    def save_frame(self, folder: str | Path) -> None:
        """Write everything but the weights."""
        folder = Path(folder)
        self.model.config.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        size = {"height": self.image_size, "width": self.image_size}
        stated = {
            "do_resize": True,
            "size": size,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            IMAGE_SIZE: self.image_size,
            TILES: self.tiles,
            STYLE: self.prompt_style,
        }
        (folder / PREPROCESSOR).write_text(json.dumps(stated, indent=2) + "\n")

    def at(self, image_size: int) -> Backbone:
        """The same model, weights and all, for images of another size. Raises ValueError where it cannot see those."""
        if image_size == self.image_size:
            return self
        if image_size not in self._siblings:
            same = self.mean, self.std, self.prompt_style, self.tiles
            sibling = Backbone(self.model, self.tokenizer, image_size, *same).train(self.training)
            sibling.source = self.source
            self._siblings[image_size] = sibling
        return self._siblings[image_size]

    @property
    def language(self) -> str:
        """The name of the base model's part that reads the sequence."""
        return self._family.language

    def usual_rate(self, train: str) -> float | None:
        """The learning rate that the field takes where such a model trains by "lora" or "all"; None: nobody knows."""
        return {"lora": self._family.lora_rate, "all": self._family.all_rate}.get(train)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.model.parameters()).device

    def set_dtype(self, dtype: torch.dtype) -> list[torch.Tensor]:
        """Turn the weights to another dtype; returns what they were. Adapters and buffers (waves of positions) stay."""
        before = [parameter.data for parameter in self.model.parameters()]
        for name, parameter in self.model.named_parameters():
            if "lora_" not in name:
                parameter.data = parameter.data.to(dtype)
        return before

    def text_limit(self, views: int = 1) -> int:
        """Most tokens of an instruction that this backbone reads beside so many views."""
        positions = getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or 10**9
        return min(TEXT_LIMIT, positions - self.overhead(views) - 1)

    def overhead(self, views: int = 1) -> int:
        """Tokens of a sequence beside the instruction's."""
        return sum(map(len, self._frame(views))) + SLOTS

    def prompt(self, texts: Sequence[str], views: int = 1) -> Prompt:
        """The token ids of instructions, each beside `views` images. Remembers what it has tokenised.

        Raises:
            ValueError: an instruction longer than `text_limit`.
        """
        key = (tuple(texts), views, self.device)
        if key in self._prompts:
            self._prompts.move_to_end(key)
            return self._prompts[key]
        # Remembered tensors outlive the caller's inference mode, and a gradient may need them later.
        with torch.inference_mode(False):
            made = self._assemble([self._tokenised(text, views) for text in texts], views)
        _remember(self._prompts, key, made, _CACHED_PROMPTS)
        return made

    def length(self, text: str, views: int = 1) -> int:
        """How many tokens an instruction has. Raises ValueError for one that `prompt` would refuse."""
        return len(self._tokenised(text, views).ids)

    def forward(self, pixels_BV3HW: torch.Tensor, prompt: Prompt, cache: Any = None) -> Encoded:
        """Encode views, floats of `pixels_to_floats`, beside their instructions; keys and values join the `cache`."""
        B, V = pixels_BV3HW.shape[:2]
        assert prompt.ids_BT.shape[0] == B, (prompt.ids_BT.shape, pixels_BV3HW.shape)
        assert prompt.views == V, (prompt.views, V)
        pixels_BV3HW = pixels_BV3HW.to(self.model.dtype)
        seen, visual_BVND = self._look(pixels_BV3HW)
        # Padding on the right changes nothing before it under a causal mask, and no mask is faster.
        mask_BT = None if self._family.causal else prompt.mask_BT
        extras = self._family.extras(prompt.ids_BT, self._image_token, pixels_BV3HW, self.model.config)
        tokens_BTD = self._family.read(self.model.model, prompt.ids_BT, mask_BT, seen, extras, cache)
        index_BSD = prompt.slots_BS[..., None].expand(-1, -1, self.hidden_size)
        return Encoded(tokens_BTD, prompt.mask_BT, visual_BVND, tokens_BTD.gather(1, index_BSD))

    def clauses(self, texts: Sequence[str], most: int, words: int) -> tuple[torch.Tensor, torch.Tensor]:
        """What texts say clause by clause, see `clause_features`."""
        self._clauses = self._clauses or ClauseTexts(self.tokenizer)
        read = [self._clauses(text) for text in texts]
        return clause_features(read, self.model.get_input_embeddings().weight, most, words)

    def look(self, pixels_BV3HW: torch.Tensor) -> torch.Tensor:
        """The image tokens alone: [B, V, N, D], as in `Encoded.visual_BVND`."""
        return self._look(pixels_BV3HW.to(self.model.dtype))[1]

    def read(self, texts: Sequence[str]) -> torch.Tensor:
        """The slots' last hidden states [B, S, D] of texts without any image."""
        if len(texts) > 1 and not self._family.causal:  # which would see the padding
            return torch.cat([self.read([text]) for text in texts])
        prompt = self.prompt(texts, views=0)
        tokens_BTD = self._family.read(self.model.model, prompt.ids_BT, None, None, {})
        return tokens_BTD.gather(1, prompt.slots_BS[..., None].expand(-1, -1, self.hidden_size)).float()

    def _look(self, pixels_BV3HW: torch.Tensor) -> tuple[Any, torch.Tensor]:
        """The family's image output, and its tokens [B, V, N, D]."""
        base = self.model.model
        if self.tiles > 1:
            seen, grid_XGD = look_at_tiles(self._family, base, pixels_BV3HW, self.tiles)
            return seen, grid_XGD.unflatten(0, pixels_BV3HW.shape[:2])
        seen = self._family.look(base, pixels_BV3HW)
        pooled = seen.pooler_output
        visual = pooled if isinstance(pooled, torch.Tensor) else torch.cat(tuple(pooled))
        first, cells = self._family.around[0], self.grid[0] * self.grid[1]
        found = visual.reshape(*pixels_BV3HW.shape[:2], cells + sum(self._family.around), self.hidden_size)
        return seen, found[:, :, first : first + cells]

    def _assemble(self, texts: Sequence[_Tokenised], views: int) -> Prompt:
        opening, after = self._frame(views)
        closing = after + [self._vocabulary[POINTER_TOKEN]] * MENTIONS + [self._vocabulary[SELF_TOKEN]]
        rows = [opening + text.ids + closing for text in texts]
        T = max(len(row) for row in rows)
        padding = self.tokenizer.pad_token_id or 0
        ids_BT = sent(torch.tensor([row + [padding] * (T - len(row)) for row in rows]), self.device)
        length_B1 = sent(torch.tensor([[len(row)] for row in rows]), self.device)
        position_T = torch.arange(T, device=self.device)
        most = max(len(text.words) for text in texts)
        ends = [[len(opening) + i for i in text.words] + [-1] * (most - len(text.words)) for text in texts]
        words_BW = sent(torch.tensor(ends, dtype=torch.long).view(len(rows), most), self.device)
        return Prompt(ids_BT, (position_T < length_B1).long(), length_B1 - SLOTS + position_T[:SLOTS], words_BW, views)

    def _frame(self, views: int) -> tuple[list[int], list[int]]:
        """Token ids before the instruction, images included, and those between it and the slots."""
        if views not in self._frames:
            cells = self.grid[0] * self.grid[1] // self.tiles**2
            image = framed_image(self.tokenizer, self._family, self._image_token, cells, self.tiles)
            frame = chat_frame if self.prompt_style == "chat" else plain_frame
            self._frames[views] = frame(self.tokenizer, self._family, image, views)
        return self._frames[views]

    def _tokenised(self, text: str, views: int) -> _Tokenised:
        found = self._texts.get(text)
        if found is None:
            kept_text(text, "instruction")  # or tells what no tokenizer says so plainly
            # split_special_tokens: a page that says "<image>" is text, not an image.
            encoded = self.tokenizer(
                text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=self.tokenizer.is_fast
            )
            reserved = {self._image_token, self._vocabulary[POINTER_TOKEN], self._vocabulary[SELF_TOKEN]}
            if reserved & set(encoded.input_ids):
                raise ValueError(f"instruction {text[:60]!r} holds one of the backbone's reserved tokens")
            found = _Tokenised(encoded.input_ids, last_tokens(text, encoded.get("offset_mapping", ())))
            _remember(self._texts, text, found, _CACHED_TEXTS)
        limit, length = self.text_limit(views), len(found.ids)
        if length > limit:
            raise ValueError(f"instruction of {length} tokens; this backbone reads at most {limit}: {text[:60]!r}...")
        return found


def _remember(memory: OrderedDict, key: Any, value: Any, limit: int) -> None:
    memory[key] = value
    if len(memory) > limit:
        memory.popitem(last=False)


def _image_token(config: Any) -> int:
    token = getattr(config, "image_token_id", None)
    return config.image_token_index if token is None else token
