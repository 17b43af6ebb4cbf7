"""Pictures for people: enlarging small camera images, and PNG or JPEG inside HTML."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image


def enlarged(frame: np.ndarray, size: int) -> np.ndarray:
    """A uint8 frame [H, W, 3], each pixel repeated so that its larger side is near `size`; never shrunk."""
    factor = max(1, round(size / max(frame.shape[:2])))
    return frame.repeat(factor, axis=0).repeat(factor, axis=1)


def data_uri(frame: np.ndarray, largest: int = 256) -> str:
    """A uint8 frame [H, W, 3] as a data URI: PNG where small, else JPEG of at most `largest` pixels a side."""
    image = Image.fromarray(np.ascontiguousarray(frame))
    small = max(image.size) <= 96
    image.thumbnail((largest, largest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "PNG" if small else "JPEG", quality=88)
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
