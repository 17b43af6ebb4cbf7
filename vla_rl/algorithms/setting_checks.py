"""What several algorithms' settings have in common, and how they are checked. Imports no torch."""

from __future__ import annotations

from typing import Any, Literal

from vla_rl.adaptation.on_shift import Adaptation
from vla_rl.rewards.costs import CostUse
from vla_rl.rewards.credit import Credit
from vla_rl.rewards.occupancy import OccupancyPenalty
from vla_rl.specs import shown

Gamma = float | Literal["auto"]
"""The discount of one decision; "auto": about 1 - 1 / T, where demonstrations take T decisions (`build.with_gamma`)."""


def known(gamma: Gamma) -> float | None:
    """The number; None where it is yet to be worked out."""
    return None if isinstance(gamma, str) else gamma


def check_gamma(settings: Any) -> None:
    """Raise ValueError unless `gamma` lies in [0, 1], or is to be worked out."""
    if known(settings.gamma) is not None:
        check_share(settings, "gamma")


def check_backbone(settings: Any) -> None:
    """Raise ValueError unless the backbone's learning rate and its warm-up make sense."""
    rate, warmup = settings.backbone_lr, settings.backbone_warmup
    if (rate is not None and not 0.0 < rate < 1.0) or warmup < 0:
        raise ValueError(f"backbone_lr: in (0, 1), or null; backbone_warmup: at least 0; got {rate} and {warmup}")


def check_share(settings: Any, name: str) -> None:
    """Raise ValueError unless the setting lies in [0, 1]."""
    if not 0.0 <= getattr(settings, name) <= 1.0:
        raise ValueError(f"{name} must lie in [0, 1], got {getattr(settings, name)}")


def check_positive(settings: Any, name: str, most: int = 1 << 20) -> None:
    """Raise ValueError unless the setting lies in [1, most]; more is a slip, which would take all memory."""
    if not 1 <= getattr(settings, name) <= most:
        raise ValueError(f"{name} must be at least 1, and at most {most}; got {getattr(settings, name)}")


def check_weights(settings: Any) -> None:
    """Raise ValueError unless the settings of exp(A / beta) make sense."""
    if settings.beta <= 0 or settings.max_weight < 1:
        raise ValueError(f"beta: above 0; max_weight: at least 1; got {settings.beta} and {settings.max_weight}")


def check_budget(settings: Any, name: str) -> None:
    """Raise ValueError unless the setting is above 0, or None."""
    value = getattr(settings, name)
    if value is not None and value <= 0:
        raise ValueError(f"{name}: above 0, or null for none, got {value}")


def check_component(settings: Any, name: str, kind: type, such: str) -> None:
    """Raise ValueError unless the setting is a component of that kind, or None; `such` tells what one is."""
    value = getattr(settings, name)
    if value is not None and not isinstance(value, kind):
        raise ValueError(f"{name}: null, or a component {such}; got {shown(value)}")


def check_reference(settings: Any) -> None:
    """Raise ValueError where there is nothing to hold a policy's occupancy against."""
    use = settings.occupancy
    without = {"demos": settings.demo_share == 0, "start": settings.warmup_updates == 0}
    if use is not None and without.get(use.reference, all(without.values())):
        raise ValueError(
            f"occupancy: reference={use.reference} needs demonstrations in a batch (demo_share above 0; "
            f"{settings.demo_share}) or decisions before the actor learns (warmup_updates above 0; "
            f"{settings.warmup_updates})"
        )


def check_components(settings: Any) -> None:
    """Raise ValueError unless `cost`, `credit`, `occupancy` and `adaptation` are components for that, or None."""
    check_component(
        settings,
        "cost",
        CostUse,
        "that ranks decisions, such as {type: price, c: 0.2}, {type: budget, limit: 1} or "
        "{type: lexicographic, epsilon: 0.05}",
    )
    check_component(
        settings,
        "credit",
        Credit,
        "that says what a return is due to, such as {type: lambda, decay: 0.9}, {type: milestones} or "
        "{type: anchor_states}",
    )
    check_component(settings, "occupancy", OccupancyPenalty, "such as {type: chi_squared, weight: 0.1}")
    check_reference(settings)
    check_component(settings, "adaptation", Adaptation, "such as {type: on_shift, steps: 5000}")
