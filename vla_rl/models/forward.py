"""From observations to what a policy would do, in one pass: what acting calls, recorded where that can be replayed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from torch import Tensor

from vla_rl.models.features import Features
from vla_rl.models.graphs import Record, Replayed
from vla_rl.models.inputs import inputs_of
from vla_rl.models.policy import Logits, Policy
from vla_rl.models.trunk import Told, views_of
from vla_rl.specs import REMEMBERED


@dataclass(frozen=True)
class _Seen:
    """An observation on the device, and what its texts come to."""

    images: list[Tensor]
    told: Told
    state: Tensor
    before: Tensor | None


class Forward:
    """`policy.encode` and `policy.logits` together, without a gradient.

    record: replays all of it at once, see `graphs`; the features and logits that it gives hold until the next call. A
    policy that remembers turns reads the words of its texts one by one, and one that says tokens one by one goes on
    from what it read; both do without.
    """

    def __init__(self, policy: Policy, record: Record | None = None) -> None:
        self._policy = policy
        alone = policy.kept.named is not None or policy.kept.prefix
        self._replayed = Replayed(self._work, None if alone else record, self._weights)

    def __call__(self, observation: Mapping[str, Any]) -> tuple[Features, Logits]:
        policy, trunk = self._policy, self._policy.trunk
        images, texts, state = inputs_of(
            observation, policy.cameras, policy.settings.stack, policy.state_dim, policy.device
        )
        if trunk.rows_at_once is not None and len(texts) > trunk.rows_at_once:
            features = policy.encode(observation)
            return features, policy.logits(features)
        told = trunk.told(texts, views_of(images), policy.kept)
        before = None if policy.remembered_shape is None else policy.before(observation, len(texts))
        return self._replayed(_Seen(images, told, state, before))

    def _work(self, seen: _Seen) -> tuple[Features, Logits]:
        policy = self._policy
        with policy.precision():
            features = policy.trunk.read(seen.images, seen.told, seen.state, policy.kept)
        if seen.before is not None:
            features = features.beside({REMEMBERED: seen.before})
        return features, policy.logits(features)

    def _weights(self) -> Iterator[Tensor]:
        return chain(self._policy.parameters(), self._policy.buffers())
