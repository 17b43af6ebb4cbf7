"""The algorithms' configs. Imports no torch: `vla-rl list` reads this file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from vla_rl import registry
from vla_rl.algorithms.actor_critic_config import ACTED, ActorCriticConfig
from vla_rl.algorithms.needs import Needs
from vla_rl.algorithms.setting_checks import (
    Gamma,
    check_backbone,
    check_gamma,
    check_positive,
    check_share,
    check_weights,
    known,
)
from vla_rl.specs import Truncation

if TYPE_CHECKING:
    from vla_rl.algorithms.algorithm import Algorithm, Explores, Scorer


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
        needs = super().needs
        return replace(needs, one_step=max(needs.one_step, self.model_share)) if self.has_model else needs

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
        if self.cost is not None or self.calls is not None or self.occupancy is not None:
            raise ValueError(
                "cost, calls, occupancy: recap's critic judges no decisions, so that it cannot tell what one costs or "
                "is worth; use null, or take pa_rl, awac or iql"
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
    backbone_lr: float | None = None
    backbone_warmup: int = 100
    final_lr: float = 1.0
    clip: float = 1.0
    epsilon: float = 0.0
    greedy_share: float = 0.0
    rehearsal_weight: float = 1.0
    refused: ClassVar = {
        "cost": "filtered_bc has no critic, so that it cannot tell what a decision costs; take pa_rl, awac or iql",
        "credit": "filtered_bc imitates episodes as a whole, whatever a decision did; take pa_rl, awac, iql or recap",
        "occupancy": "filtered_bc has no critic, so that it cannot tell what straying costs; take pa_rl, awac or iql",
        "adaptation": "filtered_bc has no critic that tells what still predicts; take pa_rl, awac, iql or recap",
    }

    def __post_init__(self) -> None:
        check_gamma(self)
        check_backbone(self)
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

    def explorer(self, policy: Any, learner: Any) -> Explores:
        """Samples of the policy, and greedy decisions in `greedy_share` of the lanes."""
        return registry.named("vla_rl.algorithms.acting:Explorer")(policy, learner, self.epsilon, self.greedy_share)

    def build(self, **parts: Any) -> Algorithm:
        """The algorithm on a policy; see `FilteredBcAlgorithm` for the parts."""
        return registry.named("vla_rl.algorithms.filtered_bc:FilteredBcAlgorithm")(settings=self, **parts)
