"""State without pickle: large arrays lie beside the tensors, bit by bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vla_rl.runtime import serialization


@pytest.mark.parametrize("dtype", ["u1", "i4", "u8", "f2", "f4", "f8", "?", "c8"])
@pytest.mark.parametrize("shape", [(), (0, 3), (3, 2), (64, 7)])
def test_arrays_come_back_as_they_were(dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    if dtype == "c8":
        with pytest.raises(TypeError, match=r"state\.a: cannot save a ndarray"):
            serialization.save_state(tmp_path, {"a": array})
        return
    serialization.check_state({"a": array})
    serialization.save_state(tmp_path, {"a": array})
    found = serialization.load_state(tmp_path)["a"]
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.tobytes() == array.tobytes()
    found[...] = 1  # it is one's own


def test_a_large_array_is_not_written_as_text(tmp_path: Path) -> None:
    serialization.save_state(tmp_path, {"a": np.zeros((64, 64, 3), np.uint8)})
    assert (tmp_path / serialization.TREE).stat().st_size < 200
