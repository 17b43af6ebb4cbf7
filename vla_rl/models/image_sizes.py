"""Of which size a model sees pictures, and in how many tiles."""

from __future__ import annotations

from typing import Any

from vla_rl.models.families import Family, family_of, side_of


def native_size(config: Any) -> int | None:
    """The side in pixels of the pictures that a model was trained on, where that is known."""
    size = getattr(config.vision_config, "image_size", None)
    return family_of(config).default_size if size is None else side_of(size)


def image_size_of(config: Any, wanted: int | None, tiles: int = 1) -> int:
    """The side in pixels of the square picture that the model shall see: `wanted`, or the config's, of each tile.

    Raises:
        ValueError: the family cannot see pictures of that size, or so many tiles; names the nearest that it can.
    """
    family, native = family_of(config), native_size(config)
    _check_tiles(config.model_type, family, tiles)
    size = wanted or (native and native * tiles)
    cut = "" if tiles == 1 else f" with {tiles} x {tiles} tiles"
    if size is None:
        raise ValueError(f"image_size must be given for a backbone of model_type {config.model_type!r}")
    if not family.resizable:
        assert native is not None, config.model_type
        if size != native * tiles:
            raise ValueError(
                f"image_size {size}: this {config.model_type} backbone{cut} sees images of {native * tiles} only; give "
                f"{native * tiles}, or leave image_size out"
            )
        return size
    step = family.step(config) * tiles
    if size % step or size <= 0:
        nearest = max(step, round(size / step) * step)
        raise ValueError(
            f"image_size {size} must be a multiple of {step} for this {config.model_type} backbone{cut}; "
            f"nearest: {nearest}"
        )
    return size


def _check_tiles(model_type: str, family: Family, tiles: int) -> None:
    most = 1 if family.tiling is None else family.tiling.most
    if not 1 <= tiles <= most:
        whole = f"a {model_type} backbone sees a picture as a whole; take 1" + (
            ", and a larger image_size" if family.resizable else ""
        )
        several = f"a {model_type} backbone sees 1 to {most} tiles along a side"
        raise ValueError(f"tiles {tiles}: {whole if most == 1 else several}")
