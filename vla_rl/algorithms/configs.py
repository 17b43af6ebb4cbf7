"""The algorithms' configs. Imports no torch: `vla-rl list` reads this file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from vla_rl import registry
from vla_rl.specs import Truncation

if TYPE_CHECKING:
    from vla_rl.algorithms.algorithm import Algorithm


@dataclass(frozen=True)
class PaRl:
    """Sampled-candidate policy improvement with a critic of its own on frozen features.

    The actor imitates a softmax over the critic's values of its own samples and of the replayed action
    (the family of PA-RL, arXiv 2412.06685); the critic is categorical (HL-Gauss, arXiv 2403.03950).

    gamma: discount of one decision.
    mc_weight: share of the observed return in the critic's target; the rest is the n-step backup.
    truncation: what the observed return of an episode is worth that a limit of steps cut short. "fail": it is complete,
        so that the limit counts as a failure. "bootstrap": it goes on with the value at the episode's last observation
        (where `mc_weight` is less than 1, in that share of the rows; the others take the n-step backup alone). "drop":
        nothing; such rows take the n-step backup alone, and where `mc_weight` is 1 they are not learnt from.
    backup, backup_samples: the value of a next state is the max or mean of this many samples' values.
    candidates, uniform_candidates: the policy's own and uniformly random candidates of the actor's loss.
    self_imitation: whether the replayed action counts as worth at least the return that followed it (arXiv
        1806.05635): quick where luck is rare; in long noisy episodes it clones whatever happened before a success.
    temperature: in units of the batch's mean standard deviation of Q over the candidates; least_temperature, in
        units of value, keeps noise from deciding where all candidates are worth the same.
    bc_weight, kl_weight: the anchors: cross-entropy on demonstrations, KL(policy || supervised start).
    critic_updates: critic updates for one update of the actor.
    warmup_updates: critic updates before the actor's first.
    final_lr: both learning rates fall in a straight line to this share of theirs at the end of the run; 1: never.
    value_range, bins, sigma: the critic's histogram, and the width of what it imitates, in units of value (1.5 bins or
        so). It has to hold every discounted return; what lies beyond is cut off, and known beforehand is refused.
    epsilon: probability that a decision, while collecting, is uniformly random.
    shift, brightness, contrast: augmentation of pictures, see `vla_rl.algorithms.augment`; cached features are then of
        no use.
    greedy_share: of the environments that, while collecting, take the most likely decision: a greedy policy runs in
        circles where a sampling one stumbles out, and the critic has to see that (as Ape-X gives each actor its own
        epsilon, arXiv 1803.00933).
    """

    gamma: float = 0.9
    mc_weight: float = 0.5
    truncation: Truncation = "fail"
    backup: Literal["max", "mean"] = "max"
    backup_samples: int = 8
    candidates: int = 16
    uniform_candidates: int = 0
    self_imitation: bool = True
    temperature: float = 0.5
    least_temperature: float = 0.01
    bc_weight: float = 0.3
    kl_weight: float = 0.0
    demo_share: float = 0.25
    critic_updates: int = 8
    warmup_updates: int = 500
    actor_batch_size: int = 64
    batch_size: int = 256
    critic_lr: float = 1e-3
    actor_lr: float = 3e-4
    final_lr: float = 1.0
    weight_decay: float = 1e-4
    clip: float = 1.0
    target_ema: float = 0.02
    critics: int = 2
    critic_width: int = 256
    bins: int = 51
    value_range: tuple[float, float] = (-0.1, 1.1)
    sigma: float = 0.035
    epsilon: float = 0.0
    greedy_share: float = 0.0
    shift: int = 0
    brightness: float = 0.0
    contrast: float = 0.0

    def __post_init__(self) -> None:
        unit = ("gamma", "mc_weight", "demo_share", "final_lr", "target_ema", "epsilon", "greedy_share")
        for name in unit:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        for name in ("candidates", "backup_samples", "critic_updates", "actor_batch_size", "batch_size", "critics"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.shift < 0 or not 0 <= self.brightness < 1 or not 0 <= self.contrast < 1:
            raise ValueError(f"shift: at least 0; brightness, contrast: in [0, 1); got {self}")
        if self.value_range[0] >= self.value_range[1]:
            raise ValueError(f"value_range must rise, got {self.value_range}")

    @property
    def augments(self) -> bool:
        """Whether a batch's pictures are changed before they are encoded."""
        return bool(self.shift or self.brightness or self.contrast)

    def build(self, **parts: Any) -> Algorithm:
        """The algorithm on a policy; see `PaRlAlgorithm` for the parts."""
        return registry.named("vla_rl.algorithms.pa_rl:PaRlAlgorithm")(settings=self, **parts)
