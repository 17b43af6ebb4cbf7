"""The algorithms' configs. Imports no torch: `vla-rl list` reads this file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from vla_rl import registry
from vla_rl.algorithms.needs import Needs
from vla_rl.algorithms.setting_checks import (
    Gamma,
    check_adaptation,
    check_budget,
    check_cost,
    check_gamma,
    check_positive,
    check_share,
    check_weights,
    known,
)
from vla_rl.registry import GROUP
from vla_rl.specs import ACTING, LOG_PROB, VALUE, Signal, Truncation

if TYPE_CHECKING:
    from vla_rl.algorithms.algorithm import Algorithm, Scorer


ACTED = (Signal(LOG_PROB),)
"""What `Explorer` tells of its decisions."""
ACTED_BY_CRITIC = (*ACTED, Signal(ACTING, "int8"))
"""The same where some lanes act by the critic."""
PROMISED = (Signal(VALUE),)
"""What the critic made of the decision, where it is watched."""


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
    final_lr: all learning rates decay linearly to this fraction of their values at the end of the run; 1: constant.
    value_range, bins, sigma: range and bins of the critic's histogram, and the width of its target in units of value
        (about 1.5 bins). The range must contain every discounted return. Returns beyond it are clipped; if this is
        known beforehand, the config is refused.
    epsilon: probability that a decision is uniformly random during collection.
    greedy_share: fraction of the environments that take the most likely decision during collection. A greedy policy
        runs in circles where a sampling one stumbles out, and the critic has to see that (Ape-X likewise gives each
        actor its own epsilon, arXiv 1803.00933).
    critic_share, critic_samples: fraction of the environments that, during collection, take the critic's best of this
        many samples, once the actor learns. This costs no time, and shows what the critic knows about decisions: the
        log compares them with the greedy environments, or, if there are none, with those that sample.
    fallback: whether the actor only clones successes (rows that a reward followed, and demonstrations) and ignores the
        critic while acting by the critic is known to be worse.
    shift, brightness, contrast: image augmentation, see `vla_rl.algorithms.augment`; it makes cached features useless.
    cost: how the actor treats `info["cost"]`, with a separate critic: null ignores it; or a component, such as
        {type: price, c: 0.2}, {type: budget, limit: 1.0} or {type: lexicographic, epsilon: 0.05}. Where the best of
        several decisions is taken, success and cost both count.
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
    critic_share: float = 0.0
    critic_samples: int = 16
    fallback: bool = False
    shift: int = 0
    brightness: float = 0.0
    contrast: float = 0.0
    cost: Any = field(default=None, metadata={GROUP: "costs"})
    adaptation: Any = field(default=None, metadata={GROUP: "adaptations"})

    def __post_init__(self) -> None:
        check_gamma(self)
        check_cost(self)
        check_adaptation(self)
        check_budget(self, "kl_budget")
        check_budget(self, "held_budget")
        for name in ("mc_weight", "demo_share", "final_lr", "target_ema", "epsilon", "greedy_share", "critic_share"):
            check_share(self, name)
        for name in ("backup_samples", "critic_updates", "actor_batch_size", "batch_size", "critic_samples"):
            check_positive(self, name)
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
        return Needs(
            batch_size=self.batch_size,
            demo_share=self.demo_share,
            gamma=known(self.gamma),
            truncation=self.truncation,
            finished_only=self.returns_alone,
            following="cut" if self.returns_alone else True,
            to_end=self.mc_weight,
            value_range=self.value_range,
            augments=bool(self.shift or self.brightness or self.contrast),
            shifts=self.shift > 0,
            reference=self.kl_weight > 0 or self.kl_budget is not None or self.held_budget is not None,
            held=self.held_budget is not None,
            best_of=self.critic_samples if self.critic_share > 0 else 0,
            columns=(ACTED_BY_CRITIC if self.critic_share > 0 else ACTED) + (PROMISED if self.adaptation else ()),
            listens=self.cost is not None or self.adaptation is not None,
            adapts=self.adaptation is not None,
        )

    def scorer(self, policy: Any, state: dict[str, Any]) -> Scorer | None:
        """The critic of a saved algorithm, and what it made of costs, as what ranks decisions."""
        judge = registry.named("vla_rl.algorithms.critic:load_scorer")(self, policy, state)
        return registry.named("vla_rl.algorithms.constraints:constrained")(self, policy, state, judge)


@dataclass(frozen=True)
class PaRl(ActorCriticConfig):
    """Policy improvement by sampled candidates, with a separate critic on frozen features.

    The actor imitates a softmax over the critic's values of its own samples and of the replayed action
    (the family of PA-RL, arXiv 2412.06685). The other settings are those of every actor-critic.

    candidates, uniform_candidates: the number of candidates in the actor's loss that are drawn from the policy and
        uniformly at random.
    self_imitation: whether the replayed action is worth at least the return that followed it (arXiv 1806.05635). This
        is quick if success is rare; in long noisy episodes it clones whatever happened before a success.
    temperature: in units of the batch's mean standard deviation of Q over the candidates; least_temperature, in
        units of value, keeps noise from deciding if all candidates are worth the same.
    spread: whether that standard deviation is the mean of the "batch", or that of each "state". In long episodes, a
        batch's temperature leaves early states, whose candidates differ little in value, with no preference at all.
    critic: what scores the candidates. "direct": the critic's Q(s, a). "model": r + (1 - end) gamma V(f(s, a)), where f
        is a learned one-step model of the heads' inputs, and V is the critic's mean value of the policy's decisions.
        "both": their mean. See `vla_rl.algorithms.dynamics`.
    model_share: fraction of a batch's rows with one-step transitions, which the model learns from; unused without a
        model.
    model_members, model_width, model_lr: settings of the model. model_samples: samples of the policy that V averages
        over.
    """

    candidates: int = 16
    uniform_candidates: int = 0
    self_imitation: bool = True
    temperature: float = 0.5
    least_temperature: float = 0.01
    spread: Literal["batch", "state"] = "batch"
    critic: Literal["direct", "model", "both"] = "direct"
    model_share: float = 0.5
    model_members: int = 3
    model_samples: int = 8
    model_width: int = 192
    model_lr: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("candidates", "model_members", "model_samples"):
            check_positive(self, name)
        check_share(self, "model_share")
        if self.has_model and self.model_share == 0:
            raise ValueError(f"critic={self.critic} learns a model from rows of one step; model_share is 0")

    @property
    def has_model(self) -> bool:
        """Whether a model judges."""
        return self.critic != "direct"

    @property
    def needs(self) -> Needs:
        """What it asks of the run: rows of one step, where there is a model."""
        return replace(super().needs, one_step=self.model_share if self.has_model else 0.0)

    def scorer(self, policy: Any, state: dict[str, Any]) -> Scorer:
        """What ranked the candidates of a saved algorithm."""
        return registry.named("vla_rl.algorithms.pa_rl:load_scorer")(self, policy, state)

    def build(self, **parts: Any) -> Algorithm:
        """The algorithm on a policy; see `ActorCritic` for the parts."""
        return registry.named("vla_rl.algorithms.pa_rl:PaRlAlgorithm")(settings=self, **parts)


@dataclass(frozen=True)
class Awac(ActorCriticConfig):
    """Advantage-weighted actor-critic (arXiv 2006.09359): the actor imitates past decisions, better ones more.

    The weight of a row is exp(A / beta), at most `max_weight`, where A = Q(s, a) - mean Q(s, samples of the policy).
    The other settings are those of every actor-critic.

    beta: in units of the batch's standard deviation of A. values: samples whose mean Q is the value of a state.
    """

    beta: float = 0.5
    max_weight: float = 20.0
    values: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weights(self)
        check_positive(self, "values")

    def build(self, **parts: Any) -> Algorithm:
        """The algorithm on a policy; see `ActorCritic` for the parts."""
        return registry.named("vla_rl.algorithms.awac:AwacAlgorithm")(settings=self, **parts)


@dataclass(frozen=True)
class Iql(ActorCriticConfig):
    """Implicit Q-learning (arXiv 2110.06169): only decisions in the batch are ever scored.

    V(s) is the `expectile` of Q(s, a) over the decisions taken there, and the backup of Q. The weight of a row in the
    actor's imitation is exp(A / beta), at most `max_weight`, where A = Q(s, a) - V(s). `backup` and `backup_samples`
    have no effect, except with a `cost`: then this many samples of the policy are scored too, by success and cost, and
    A is the worth of the decision minus their mean. The other settings are those of every actor-critic.

    expectile: in (0, 1); 0.5 is the mean, and the nearer to 1, the more V is that of the best decision taken.
    beta: in units of the batch's standard deviation of A.
    """

    expectile: float = 0.7
    beta: float = 0.5
    max_weight: float = 20.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weights(self)
        if not 0.0 < self.expectile < 1.0:
            raise ValueError(f"expectile must lie in (0, 1), got {self.expectile}")

    def build(self, **parts: Any) -> Algorithm:
        """The algorithm on a policy; see `ActorCritic` for the parts."""
        return registry.named("vla_rl.algorithms.iql:IqlAlgorithm")(settings=self, **parts)


@dataclass(frozen=True)
class Recap(ActorCriticConfig):
    """RECAP (arXiv 2511.14759): imitate everything, conditioned on how good it was; then ask for the good.

    A critic of observations alone estimates how much better than usual a row's return was. The policy is trained to
    decide as all rows did and, with a token in its head that says which, as the good and the bad ones did. It acts with
    the good token. The other settings are those of every actor-critic; `backup` and `backup_samples` have no effect.

    share: fraction of a batch's rows that count as good, those with the largest advantage; demonstrations always do.
    told_weight: weight of imitation with the token, relative to imitation without it.
    """

    share: float = 0.3
    told_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.critic_share > 0:
            raise ValueError(
                f"critic_share: recap's critic judges no decisions, so that none acts by it; use 0, got "
                f"{self.critic_share}"
            )
        if self.cost is not None:
            raise ValueError(
                "cost: recap's critic judges no decisions, so that it cannot tell what one costs; use null, or take "
                "pa_rl, awac or iql"
            )
        if not 0.0 < self.share < 1.0 or self.told_weight <= 0:
            raise ValueError(f"share: in (0, 1); told_weight: above 0; got {self.share} and {self.told_weight}")

    @property
    def needs(self) -> Needs:
        """What it asks of the run: returns, in any case."""
        return replace(super().needs, finished_only=True)

    def scorer(self, policy: Any, state: dict[str, Any]) -> None:
        """Nothing ranks decisions."""

    def build(self, **parts: Any) -> Algorithm:
        """The algorithm on a policy; see `ActorCritic` for the parts."""
        return registry.named("vla_rl.algorithms.recap:RecapAlgorithm")(settings=self, **parts)


@dataclass(frozen=True)
class FilteredBc:
    """Filtered behaviour cloning: imitate demonstrations, and episodes whose return is high enough.

    No critic: the baseline that every critic has to beat.

    least_return: the discounted return that must follow a row for it to be imitated; by default, any above 0.
    rehearsal_weight: if `train.rehearsal` names images, the weight of how differently the trunk reads them now.
    The other settings are those of every actor-critic.
    """

    gamma: Gamma = 0.9
    least_return: float = 1e-6
    truncation: Truncation = "fail"
    demo_share: float = 0.25
    batch_size: int = 64
    actor_lr: float = 3e-4
    final_lr: float = 1.0
    clip: float = 1.0
    epsilon: float = 0.0
    greedy_share: float = 0.0
    rehearsal_weight: float = 1.0
    refused: ClassVar = {
        "cost": "filtered_bc has no critic, so that it cannot tell what a decision costs; take pa_rl, awac or iql",
        "adaptation": "filtered_bc has no critic that tells what still predicts; take pa_rl, awac, iql or recap",
    }

    def __post_init__(self) -> None:
        check_gamma(self)
        for name in ("demo_share", "final_lr", "epsilon", "greedy_share"):
            check_share(self, name)
        check_positive(self, "batch_size")

    @property
    def needs(self) -> Needs:
        """What it asks of the run."""
        return Needs(
            batch_size=self.batch_size,
            demo_share=self.demo_share,
            gamma=known(self.gamma),
            truncation=self.truncation,
            finished_only=True,
            following=False,
            to_end=1.0,
            columns=ACTED,
        )

    def scorer(self, policy: Any, state: dict[str, Any]) -> None:
        """Nothing ranks decisions."""

    def build(self, **parts: Any) -> Algorithm:
        """The algorithm on a policy; see `FilteredBcAlgorithm` for the parts."""
        return registry.named("vla_rl.algorithms.filtered_bc:FilteredBcAlgorithm")(settings=self, **parts)
