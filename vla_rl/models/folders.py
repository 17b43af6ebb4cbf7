"""The folder or hub id that a backbone comes from: what it states beside the weights, and whether those fit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers.utils import cached_file, logging

PREPROCESSOR = "preprocessor_config.json"
IMAGE_SIZE, TILES, STYLE = "vla_rl_image_size", "vla_rl_tiles", "vla_rl_prompt"
"""Keys of it: the side of the picture that a model sees, its tiles along a side, and the style of the prompt."""


def refuse_strangers(source: str, info: dict[str, Any]) -> None:
    """Raise ValueError where weights and model do not match key by key."""
    said = []
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted(key if isinstance(key, str) else str(key[0]) for key in info.get(kind) or ())
        if names:
            said.append(f"{kind.replace('_', ' ')}: {', '.join(names[:8])}")
    if said:
        raise ValueError(f"the weights of {source} do not fit its config; {'; '.join(said)}")


def preprocessor_of(source: str) -> dict[str, Any]:
    """What the folder or hub id states on pixels; {} where it states nothing."""
    for name in (PREPROCESSOR, "processor_config.json"):
        found = cached_file(source, name, _raise_exceptions_for_missing_entries=False)
        if found is not None:
            stated = json.loads(Path(found).read_text())
            stated = stated.get("image_processor", stated)
            if "image_mean" in stated:
                return stated
    return {}


def pictures_of(stated: Mapping[str, Any], image_size: int | None, tiles: int | None) -> tuple[int | None, int]:
    """Size and tiles as they are wanted; where nothing is, as a folder states them."""
    own = stated.get(TILES, 1)
    tiles = own if tiles is None else tiles
    return image_size or (stated.get(IMAGE_SIZE) if tiles == own else None), tiles


@contextmanager
def quiet(source: str | Path) -> Iterator[None]:
    """No progress bars for what is already on this disk; a download keeps its own."""
    if not Path(source).exists() or not logging.is_progress_bar_enabled():
        yield
        return
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()
