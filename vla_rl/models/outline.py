"""Backbones without weights, on torch's device "meta": what they take and compute can be told from the config."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer
from transformers.utils import cached_file

from vla_rl.models import bounds
from vla_rl.models.backbone import Backbone
from vla_rl.models.families import family_of
from vla_rl.models.folders import STYLE, pictures_of, preprocessor_of
from vla_rl.models.image_sizes import image_size_of
from vla_rl.models.prompts import PromptStyle


def outline(
    source: str,
    image_size: int | None = None,
    dtype: str = "float32",
    prompt_style: PromptStyle | None = None,
    tiles: int | None = None,
) -> Backbone:
    """The backbone that `Backbone.load` would load, of its config and its tokenizer alone.

    Raises:
        ValueError: no such folder, and no hub id that is to be had; a family or a size that is not supported.
    """
    try:
        found = cached_file(source, "config.json")
    except OSError as error:
        raise ValueError(f"backbone {source!r}: neither a folder nor to be had from the hub: {error}") from error
    assert found is not None, source
    bounds.check_config(Path(found), ())
    tokenizer = cached_file(source, bounds.TOKENIZER, _raise_exceptions_for_missing_entries=False)
    if tokenizer is not None:
        bounds.check_tokenizer(Path(tokenizer).parent)
    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    family_of(config)
    stated = preprocessor_of(source)
    wanted, tiles = pictures_of(stated, image_size, tiles)
    size = image_size_of(config, wanted, tiles)
    words = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    with torch.device("meta"):
        made = Backbone.from_config(config, words, size, dtype, tiles)
    made.prompt_style = prompt_style or stated.get(STYLE, "plain")
    made.source = source  # where the sizes of pointers are told
    return made


@dataclass(frozen=True)
class Outlined:
    """A backbone's settings, whose backbone comes without weights."""

    settings: Any

    def load(self) -> Backbone:
        """On torch's device "meta"; of settings that cannot tell an outline, as they make it there."""
        if hasattr(self.settings, "outline"):
            return self.settings.outline()
        with torch.device("meta"):
            return self.settings.load()
