"""What a policy of an audit got."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_rl.audit.probes import Probe
from vla_rl.evaluation.outcome import percent, wilson


@dataclass(frozen=True)
class Played:
    """One episode. paid: a reward above 0 was given. success: what the verifier says at the end, null without one.

    invalid: the environment failed; such an episode does not count. length: steps. cost: the sum of `info["cost"]`.
    """

    success: bool | None
    paid: bool
    invalid: bool
    length: int
    cost: float


@dataclass(frozen=True)
class ProbeScore:
    """What one policy got."""

    probe: Probe
    played: tuple[Played, ...]

    @property
    def valid(self) -> tuple[Played, ...]:
        """The episodes that count."""
        return tuple(each for each in self.played if not each.invalid)

    @property
    def successes(self) -> int:
        """Episodes in which the verifier says yes."""
        return sum(bool(each.success) for each in self.valid)

    @property
    def success(self) -> float:
        """In percent."""
        return percent(self.successes, len(self.valid))

    @property
    def paid(self) -> float:
        """Episodes in which a reward was given, in percent."""
        return percent(sum(each.paid for each in self.valid), len(self.valid))

    @property
    def gap(self) -> float:
        """Episodes in which a reward was given and the verifier says no, in percent."""
        return percent(sum(each.paid and each.success is False for each in self.valid), len(self.valid))

    def as_json(self) -> dict[str, Any]:
        """Shares in percent; length in steps an episode, cost a sum an episode."""
        rows = self.valid
        return {
            "policy": self.probe.name,
            "episodes": len(rows),
            "invalid": len(self.played) - len(rows),
            "success": self.success,
            "success_ci95": list(wilson(self.successes, len(rows))),
            "paid": self.paid,
            "gap": self.gap,
            "mean_length": _mean([each.length for each in rows]),
            "mean_cost": _mean([each.cost for each in rows]),
        }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
