"""What every actor-critic can be told. Imports no torch: `vla-rl list` reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from vla_rl import registry
from vla_rl.algorithms.needs import Needs
from vla_rl.algorithms.setting_checks import (
    Gamma,
    check_backbone,
    check_budget,
    check_components,
    check_gamma,
    check_positive,
    check_share,
    known,
)
from vla_rl.registry import GROUP, SETTINGS, ConfigError
from vla_rl.rewards.calls import CallValue
from vla_rl.rewards.credit import Backup
from vla_rl.specs import ACTING, LOG_PROB, REWARD, VALUE, Signal, Truncation

if TYPE_CHECKING:
    from vla_rl.algorithms.algorithm import Algorithm, Explores, Scorer


ACTED = (Signal(LOG_PROB),)
"""What `Explorer` tells of its decisions."""
ACTED_BY_CRITIC = (*ACTED, Signal(ACTING, "int8"))
"""The same where some lanes act by the critic."""
PROMISED = (Signal(VALUE),)
"""What the critic made of the decision, where it is watched."""
MOST_WAVES = 8
"""Octaves; a wave of the last is a 32nd of a spread long."""


class AlgorithmConfig(Protocol):
    """A frozen dataclass; its fields are the algorithm's settings, by the names that a config file gives them."""

    @property
    def needs(self) -> Needs:
        """What it asks of the run."""

    def build(self, **parts: Any) -> Algorithm:
        """The algorithm; parts: `policy`, `learner`, `reference`, None unless it needs one, and `rehearsal`, where the
        run names one."""

    def scorer(self, policy: Any, state: dict[str, Any]) -> Scorer | None:
        """What ranks decisions, from a saved `state_dict` of the algorithm; None where nothing does."""

    def explorer(self, policy: Any, learner: Any) -> Explores:
        """What decides while collecting where there is a copy of the policy and nothing else of the algorithm.

        Raises:
            ConfigError: more than that is needed.
        """


@dataclass(frozen=True)
class ActorCriticConfig:
    """A policy and a separate categorical critic (HL-Gauss, arXiv 2403.03950) on frozen features.

    gamma: discount per decision. "auto": 1 - 1 / T, where the median demonstration takes T decisions; computed when a
        run starts, and part of its config from then on.
    mc_weight: weight of the observed return in the critic's target; the rest is the n-step backup.
    truncation: how the observed return counts if a step limit cut the episode short. "fail": the return is complete,
        so the limit counts as a failure. "bootstrap": add the value at the episode's last observation (if `mc_weight`
        is below 1, for that share of the rows; the others use the n-step backup alone). "drop": ignore the return; such
        rows use the n-step backup alone, and are not learned from if `mc_weight` is 1.
    backup, backup_samples: the value of a next state is the max or mean of this many samples' values.
    bc_weight, kl_weight, rehearsal_weight: weights of the anchors: cross-entropy on demonstrations, KL(policy ||
        supervised start), and, if `train.rehearsal` names images, how differently the trunk reads them now.
    kl_budget, held_budget: how far, in nats per decision, the policy may be from its start, on the observations of a
        batch and on the demonstrations of `train.held`. The weight of each divergence adapts, starting from
        `kl_weight`, or 0.1. null: no budget.
    demo_share: fraction of a batch's rows that come from demonstrations.
    critic_updates: critic updates per actor update.
    warmup_updates: critic updates before the first actor update.
    backbone_lr: learning rate of the backbone, if it trains; null: as such models are usually fine-tuned, 1e-4 with
        `policy.train=lora` and 1e-5 with `all`, but `actor_lr` if that is less, and for the tiny backbone.
    backbone_warmup: actor updates over which that rate rises from 0.
    final_lr: all learning rates decay linearly to this fraction of their values at the end of the run; 1: constant.
    critics, critic_width: how many networks judge together, and the width of their layers.
    critic_waves: how many octaves of sines and cosines of what the heads read the critics read beside it, so that they
        tell apart what differs little; 0: none. See `vla_rl.algorithms.critic.waved`.
    value_range, bins, sigma: range and bins of the critic's histogram, and the width of its target in units of value
        (about 1.5 bins). The range must contain every discounted return. Returns beyond it are clipped; if this is
        known beforehand, the config is refused.
    epsilon: probability that a decision is uniformly random during collection.
    greedy_share: fraction of the environments that take the most likely decision during collection. A greedy policy
        runs in circles where a sampling one stumbles out, and the critic has to see that (Ape-X likewise gives each
        actor its own epsilon, arXiv 1803.00933).
    critic_share, critic_samples: fraction of the environments where, during collection, the critic chooses among this
        many samples and the greedy decision, once the actor learns. This costs no time, and shows what the critic
        knows about decisions: the log compares them with the greedy environments, or, if there are none, with those
        that sample.
    fallback: whether the actor only clones successes (rows that a reward followed, and demonstrations) and ignores the
        critic while acting by the critic is known to be worse.
    shift, brightness, contrast: image augmentation, see `vla_rl.algorithms.augment`; it makes cached features useless.
    cost: how the actor treats `info["cost"]`, with a separate critic: null ignores it; or a component, such as
        {type: price, c: 0.2}, {type: budget, limit: 1.0} or {type: lexicographic, epsilon: 0.05}. Where the best of
        several decisions is taken, success and cost both count.
    calls: whether the value of calling a tool is found by trying with and without, such as {share: 0.02}; see
        `vla_rl.rewards.calls.CallValue`. null: no.
    credit: which decisions a return is due to: null for the settings above; or a component, such as
        {type: lambda, decay: 0.9} or {type: milestones}. Where it says what `mc_weight` is, that counts.
    occupancy: what straying from where a trusted policy goes costs, by a discriminator: null, nothing; or a component,
        such as {type: chi_squared, weight: 0.1}.
    adaptation: what follows a drop of success in mid-run: null, nothing; or a component, such as {type: on_shift}.
    """

    gamma: Gamma = 0.9
    mc_weight: float = 0.5
    truncation: Truncation = "fail"
    backup: Literal["max", "mean"] = "max"
    backup_samples: int = 8
    bc_weight: float = 0.3
    kl_weight: float = 0.0
    kl_budget: float | None = None
    held_budget: float | None = None
    rehearsal_weight: float = 1.0
    demo_share: float = 0.25
    critic_updates: int = 8
    warmup_updates: int = 500
    actor_batch_size: int = 64
    batch_size: int = 256
    critic_lr: float = 1e-3
    actor_lr: float = 3e-4
    backbone_lr: float | None = None
    backbone_warmup: int = 100
    final_lr: float = 1.0
    weight_decay: float = 1e-4
    clip: float = 1.0
    target_ema: float = 0.02
    critics: int = 2
    critic_width: int = 256
    critic_waves: int = 0
    bins: int = 51
    value_range: tuple[float, float] = (-0.1, 1.1)
    sigma: float = 0.035
    epsilon: float = 0.0
    greedy_share: float = 0.0
    critic_share: float = 0.0
    critic_samples: int = 16
    fallback: bool = False
    shift: int = 0
    brightness: float = 0.0
    contrast: float = 0.0
    cost: Any = field(default=None, metadata={GROUP: "costs"})
    calls: CallValue | None = field(default=None, metadata={SETTINGS: True})
    credit: Any = field(default=None, metadata={GROUP: "credits"})
    occupancy: Any = field(default=None, metadata={GROUP: "occupancies"})
    adaptation: Any = field(default=None, metadata={GROUP: "adaptations"})

    def __post_init__(self) -> None:
        check_gamma(self)
        check_components(self)
        check_backbone(self)
        if self.credit is not None and self.credit.backup.mc_weight is not None:
            object.__setattr__(self, "mc_weight", self.credit.backup.mc_weight)
        check_budget(self, "kl_budget")
        check_budget(self, "held_budget")
        for name in ("mc_weight", "demo_share", "final_lr", "target_ema", "epsilon", "greedy_share", "critic_share"):
            check_share(self, name)
        for name in ("backup_samples", "critic_updates", "actor_batch_size", "batch_size", "critic_samples"):
            check_positive(self, name)
        if not 0 <= self.critic_waves <= MOST_WAVES:
            raise ValueError(f"critic_waves: 0 to {MOST_WAVES}, got {self.critic_waves}")
        for name, most in (("critics", 256), ("critic_width", 1 << 16), ("bins", 1 << 14)):
            check_positive(self, name, most)
        if self.greedy_share + self.critic_share > 1:
            raise ValueError(f"greedy_share + critic_share: at most 1, got {self.greedy_share} + {self.critic_share}")
        if self.fallback and self.critic_share == 0:
            raise ValueError("fallback: needs lanes that act by the critic, such as critic_share=0.25; got 0.0")
        if self.shift < 0 or not 0 <= self.brightness < 1 or not 0 <= self.contrast < 1:
            raise ValueError(f"shift: at least 0; brightness, contrast: in [0, 1); got {self}")
        if self.value_range[0] >= self.value_range[1]:
            raise ValueError(f"value_range must rise, got {self.value_range}")

    @property
    def returns_alone(self) -> bool:
        """Whether observed returns alone are the critic's target, so that an episode counts once it has ended."""
        return self.mc_weight == 1.0

    @property
    def needs(self) -> Needs:
        """What it asks of the run."""
        backup = Backup() if self.credit is None else self.credit.backup
        acted = ACTED_BY_CRITIC if self.critic_share > 0 else ACTED
        columns, told = ((), ()) if self.credit is None else (self.credit.columns, self.credit.acted)
        return Needs(
            batch_size=self.batch_size,
            demo_share=self.demo_share,
            gamma=known(self.gamma),
            truncation=self.truncation,
            # What rewards count for is known once an episode has ended.
            finished_only=self.returns_alone or any(each.name == REWARD for each in columns),
            following="cut" if self.returns_alone else True,
            to_end=self.mc_weight,
            one_step=0.0 if self.occupancy is None else self.occupancy.share,
            n_step=backup.n_step,
            going_on=backup.going_on,
            credit=self.credit if columns or told else None,
            value_range=self.value_range,
            augments=bool(self.shift or self.brightness or self.contrast),
            shifts=self.shift > 0,
            reference=self.kl_weight > 0 or self.kl_budget is not None or self.held_budget is not None,
            held=self.held_budget is not None,
            best_of=self.critic_samples if self.critic_share > 0 else 0,
            columns=acted + told + (PROMISED if self.adaptation else ()),
            listens=self.cost is not None or self.adaptation is not None,
            adapts=self.adaptation is not None,
        )

    def scorer(self, policy: Any, state: dict[str, Any]) -> Scorer | None:
        """The critic of a saved algorithm, and what it made of costs, as what ranks decisions."""
        judge = registry.named("vla_rl.algorithms.critic:load_scorer")(self, policy, state)
        judge = registry.named("vla_rl.algorithms.occupancy:penalised")(self, policy, state, judge)
        return registry.named("vla_rl.algorithms.constraints:constrained")(self, policy, state, judge)

    def explorer(self, policy: Any, learner: Any) -> Explores:
        """Samples of the policy, and greedy decisions in `greedy_share` of the lanes.

        Raises:
            ConfigError: lanes act by the critic, or it is watched as they act.
        """
        if self.critic_share > 0 or self.adaptation is not None:
            asked = "adaptation" if self.critic_share == 0 else f"critic_share: {self.critic_share}"
            raise ConfigError(
                f"algorithm.{asked}: asks the critic at every decision, and where environments are on other machines "
                "there is a copy of the policy only; leave it out, or set distributed=null"
            )
        make = registry.named("vla_rl.algorithms.acting:Explorer")
        return make(policy, learner, self.epsilon, self.greedy_share)
