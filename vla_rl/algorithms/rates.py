"""How fast an actor learns: its head, and, where it trains, the backbone below, which is slower and sets off gently."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from vla_rl.models.policy import Policy


@dataclass(frozen=True)
class ActorRates:
    """The learning rates of an actor's parts.

    head, backbone: rates. warmup: updates over which the backbone's rises to its own, in a straight line.
    """

    head: float
    backbone: float
    warmup: int

    @classmethod
    def of(cls, policy: Policy, head: float, backbone: float | None, warmup: int) -> ActorRates:
        """Those of a policy; a `backbone` of None is what the field takes for its family, or `head` where that is
        less, or where nobody knows."""
        usual = policy.trunk.backbone.usual_rate(policy.trainable)
        own = backbone if backbone is not None else head if usual is None else min(usual, head)
        return cls(head, own, warmup)

    def groups(self, policy: Policy) -> list[dict[str, Any]]:
        """What an optimiser takes: the backbone's parameters, where it trains, and the others."""
        parts: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for name, parameter in policy.named_parameters():
            if parameter.requires_grad:
                parts[name.startswith("trunk.backbone.")].append(parameter)
        return [{"params": some, "lr": rate} for some, rate in zip(parts.values(), self._rates, strict=True) if some]

    def set(self, optimizer: Any, share: float, updates: int) -> None:
        """Set the rates of an optimiser of those groups.

        share: of the rates that is due by now. updates: of the actor so far.
        """
        risen = min(1.0, (updates + 1) / max(self.warmup, 1))
        groups = optimizer.param_groups
        for group, rate, rises in zip(groups[::-1], self._rates[::-1], (1.0, risen), strict=False):
            group["lr"] = rate * share * rises

    @staticmethod
    def load(optimizer: Any, state: dict[str, Any]) -> None:
        """Have an optimiser of those groups go on from a saved state; older versions saved them all as one group."""
        saved, own = state["param_groups"], optimizer.param_groups
        if (len(saved), len(own)) == (1, 2):
            first = len(own[0]["params"])
            (whole,) = saved
            parts = whole["params"][:first], whole["params"][first:]
            state = {**state, "param_groups": [{**whole, "params": part} for part in parts]}
        optimizer.load_state_dict(state)

    @property
    def _rates(self) -> tuple[float, float]:
        return self.backbone, self.head
