"""Pictures for people: enlarging small camera images, and PNG or JPEG inside HTML."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

_ALIKE = 12.0
"""Of 255: the mean difference between two pictures of one view at different sizes is smaller."""


def enlarged(frame: np.ndarray, size: int) -> np.ndarray:
    """A uint8 frame [H, W, 3], each pixel repeated so that its larger side is near `size`; never shrunk."""
    factor = max(1, round(size / max(frame.shape[:2])))
    return frame.repeat(factor, axis=0).repeat(factor, axis=1)


def look_alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two uint8 pictures [H, W, 3], perhaps of different sizes, show the same view: so far as one can tell."""
    if not np.isclose(one.shape[1] / one.shape[0], other.shape[1] / other.shape[0], rtol=0.05):
        return False
    small = [
        np.asarray(Image.fromarray(np.ascontiguousarray(each)).resize((32, 32), Image.Resampling.BOX), np.float32)
        for each in (one, other)
    ]
    return float(np.abs(small[0] - small[1]).mean()) < _ALIKE


def data_uri(frame: np.ndarray, largest: int = 480) -> str:
    """A uint8 frame [H, W, 3] as a data URI: PNG where small, else JPEG of at most `largest` pixels a side."""
    image = Image.fromarray(np.ascontiguousarray(frame))
    small = max(image.size) <= 96
    image.thumbnail((largest, largest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "PNG" if small else "JPEG", quality=88)
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
