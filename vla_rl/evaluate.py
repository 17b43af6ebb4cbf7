"""The old place of `vla_rl.eval.evaluate_checkpoint`, for one release more."""

from __future__ import annotations

import warnings
from typing import Any

from vla_rl import eval as _eval


def evaluate_checkpoint(*given: Any, **named: Any) -> Any:
    """See `vla_rl.eval.evaluate_checkpoint`."""
    warnings.warn(
        "vla_rl.evaluate.evaluate_checkpoint is vla_rl.eval.evaluate_checkpoint by now; the old name goes next release",
        DeprecationWarning,
        stacklevel=2,
    )
    return _eval.evaluate_checkpoint(*given, **named)
