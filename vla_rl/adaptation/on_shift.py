"""What is done differently once success has fallen, and for how long. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from vla_rl.adaptation.fall import FallTest

SUCCESS, CRITIC = "success", "critic"
"""What is watched of each episode: whether it succeeded; and how much of what the critic promised at its start came."""


@dataclass(frozen=True)
class Response:
    """How a run differs from its usual settings, for now; by default not at all.

    epsilon: decisions while collecting that are uniformly random, at least. greedy: factor of `greedy_share`. anchor:
    factor of `bc_weight` and of a fixed `kl_weight`. rate: the learning rates' share of their first values, at least.
    recent: of own experience in a batch, the share that is drawn from what followed the shift alone. weigh: whether
    rows from before count as far as they still predict.
    """

    epsilon: float = 0.0
    greedy: float = 1.0
    anchor: float = 1.0
    rate: float = 0.0
    recent: float = 0.0
    weigh: bool = False


@runtime_checkable
class Adaptation(Protocol):
    """A frozen dataclass whose fields are its config. skip: the first episodes of a run, of which nothing is made."""

    @property
    def skip(self) -> int: ...

    def tests(self, processes: int) -> dict[str, FallTest]:
        """A new test for each thing that is watched, by its name; one of so many processes has them."""

    def response(self, since: int | None) -> Response:
        """How the run differs so many decisions after the last alarm; None before any."""


@dataclass(frozen=True)
class OnShift:
    """Takes a fall of success, or of what comes of the critic's promises, for a shift of the world.

    For `steps` decisions after an alarm, the actor explores more, is held less to demonstrations of a world that is no
    more, and learns as fast as at first, more and more as usual towards the end. Rows from before the shift count as
    far as they still predict, for as long as they are remembered.

    false_alarms: so many are expected in 1000 episodes, at most, while nothing gets worse; see `FallTest`. window:
        episodes that are looked back at. least: a smaller fall is no alarm, as a share of all episodes, or of the
        critic's range. skip: the first episodes of the run, in which the critic knows nothing yet. critic: whether its
        promises are watched, too.
    epsilon, greedy, anchor, rate, recent: of the `Response`, right after an alarm. weigh: whether old rows are weighed.
    """

    false_alarms: float = 0.05
    window: int = 600
    least: float = 0.15
    skip: int = 200
    critic: bool = True
    steps: int = 5000
    epsilon: float = 0.05
    greedy: float = 0.5
    anchor: float = 0.25
    rate: float = 1.0
    recent: float = 0.5
    weigh: bool = True

    def __post_init__(self) -> None:
        if self.skip < 0 or self.steps < 1 or self.anchor < 0:
            raise ValueError(f"skip, anchor: at least 0; steps: at least 1; got {self}")
        for name in ("epsilon", "greedy", "rate", "recent"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name}: a share, in [0, 1]; got {getattr(self, name)}")
        self.tests(1)

    def tests(self, processes: int) -> dict[str, FallTest]:
        """See `Adaptation`; all together give as many false alarms as one may."""
        watched = (SUCCESS, CRITIC) if self.critic else (SUCCESS,)
        rate = self.false_alarms / 1000 / len(watched) / processes
        return {name: FallTest(rate, self.window, self.least) for name in watched}

    def response(self, since: int | None) -> Response:
        """See `Adaptation`."""
        if since is None:
            return Response()
        strength = max(1.0 - since / self.steps, 0.0)

        def towards(adapted: float, usual: float) -> float:
            return usual + strength * (adapted - usual)

        return Response(
            epsilon=towards(self.epsilon, 0.0),
            greedy=towards(self.greedy, 1.0),
            anchor=towards(self.anchor, 1.0),
            rate=towards(self.rate, 0.0),
            recent=towards(self.recent, 0.0),
            weigh=self.weigh,
        )
