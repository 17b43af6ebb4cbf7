"""Demonstrations as the decisions (tokens) of an action space, and into replay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vla_rl.actions import horizon
from vla_rl.data.files import Episode
from vla_rl.data.flat import unpack
from vla_rl.specs import EPISODE_TASK, REMEMBERED, TASK, ActionSpace

if TYPE_CHECKING:
    import gymnasium

    from vla_rl.replay import Ground, ReplayBuffer


@dataclass(frozen=True)
class Decisions:
    """The N decisions of one episode, in order; a decision spans one step, or a chunk of H.

    `when` int64 [N + 1]: the step at which each decision is taken, then the episode's length.
    `tokens`, `labels` int64 [N, K]: the executed and the expert's decision. `reward` float32 [N]: the
    sum over the decision's steps. `terminated`, `truncated` bool [N].
    """

    when: np.ndarray
    tokens: np.ndarray
    labels: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray

    def __len__(self) -> int:
        return len(self.reward)


def to_decisions(episode: Episode, action_space: ActionSpace, actions: gymnasium.Space | None = None) -> Decisions:
    """An episode in the tokens of an action space that is bound to `actions`.

    `actions` is needed where they have several parts.

    A chunk of H steps is decided at steps 0, H, 2H, ...; the last one is filled up by repeating the
    episode's last action.

    Raises:
        ValueError: the action space cannot encode an action of the episode.
    """
    stride = horizon(action_space)
    begins = np.arange(0, len(episode), stride)

    def encode(taken: np.ndarray) -> np.ndarray:
        within = np.minimum(begins[:, None] + np.arange(stride), len(taken) - 1)
        rows = (taken[steps] if stride > 1 else taken[steps[0]] for steps in within)
        return np.stack([action_space.encode(whole(row)) for row in rows]).astype(np.int64)

    def whole(row: np.ndarray) -> Any:
        return row if actions is None else unpack(row, actions)

    return Decisions(
        when=np.append(begins, len(episode)),
        tokens=encode(episode.action),
        labels=encode(episode.label),
        reward=np.add.reduceat(episode.reward, begins).astype(np.float32),
        terminated=np.logical_or.reduceat(episode.terminated, begins),
        truncated=np.logical_or.reduceat(episode.truncated, begins),
    )


def fitted(action_space: Any, episodes: Iterable[Episode], own: ActionSpace | None = None) -> ActionSpace:
    """A bound action space that has `fit`, fitted on every chunk of the episodes' actions, taken and expert's; the last
    ones filled up by repeating the last action.

    own: of a policy that there is already, which is taken where it was fitted from such a one.
    """
    if own is not None and fitted_from(own, action_space):
        return own
    steps = np.arange(horizon(action_space))
    rows = [taken for episode in episodes for taken in (episode.action, episode.label)]
    return action_space.fit(
        [taken[np.minimum(begin + steps, len(taken) - 1)] for taken in rows for begin in range(len(taken))]
    )


def fitted_from(own: ActionSpace, action_space: Any) -> bool:
    """Whether a policy's own action space is what a bound one, which has `fit`, once became."""
    fresh, tokens = (getattr(own, name, None) for name in ("fresh", "tokens"))
    return fresh == action_space.fresh and action_space.tokens in (None, tokens)


def fill(
    replay: ReplayBuffer,
    episodes: Iterable[Episode],
    action_space: ActionSpace,
    ground: Ground | None = None,
    batch_size: int = 64,
    actions: gymnasium.Space | None = None,
    task: int = 0,
) -> int:
    """Put every decision of the episodes into a replay buffer of one lane, as demonstrations with labels.

    Args:
        replay: a buffer of one lane.
        episodes: complete episodes; each adds a row a decision and the row of its last observation.
        action_space: bound to the environment's actions.
        ground: computes the features that replay caches with each frame; called on at most `batch_size` observations
            of one episode at a time, in order. Where replay holds what is remembered, it follows from them.
        actions: the environment's, where they have several parts.
        task: which of the run's environments they are of.

    Returns:
        The number of decisions added.
    """
    added = 0
    for episode in episodes:
        decisions = to_decisions(episode, action_space, actions)
        told = {EPISODE_TASK: np.full(len(decisions), task, np.int32)} if task else {}
        remember(replay, episode, decisions, ground, batch_size, signals=told)
        added += len(decisions)
    return added


def remember(
    replay: ReplayBuffer,
    episode: Episode,
    decisions: Decisions,
    ground: Ground | None = None,
    batch_size: int = 64,
    demo: bool | np.ndarray = True,
    signals: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Put the decisions of one finished episode, and its last observation, into a replay buffer of one lane.

    demo: whether they were demonstrated, or bool [N] that says it of each. signals: by name, [N, ...]; see
    `ReplayBuffer.add`.
    """
    flags = np.broadcast_to(demo, len(decisions))
    flags = np.append(flags, flags[-1:])
    features = _features(episode, decisions.when, ground, batch_size, replay.stack)
    noted: dict[str, np.ndarray] = {}
    if features is not None and "remembered" in features:
        after = features["remembered"]
        noted[REMEMBERED] = np.concatenate([np.zeros_like(after[:1]), after[:-1]])
    cached = features if replay.caches else None
    idle = np.zeros((1, decisions.tokens.shape[1]), np.int64)
    for row, step in enumerate(decisions.when.tolist()):
        final = row == len(decisions)
        at = slice(row, row + 1)
        replay.add(
            episode.observation([step]) | {name: value[at] for name, value in noted.items()},
            idle if final else decisions.tokens[at],
            np.zeros(1, np.float32) if final else decisions.reward[at],
            np.zeros(1, np.bool_) if final else decisions.terminated[at],
            np.zeros(1, np.bool_) if final else decisions.truncated[at],
            final=np.asarray([final]),
            features=None if cached is None else {key: value[at] for key, value in cached.items()},
            labels=idle if final else decisions.labels[at],
            demo=flags[at],
            signals={} if final or signals is None else {name: value[at] for name, value in signals.items()},
        )


def _features(
    episode: Episode, when: np.ndarray, ground: Ground | None, batch_size: int, stack: int
) -> dict[str, np.ndarray] | None:
    """The features of the episode's observations at the steps `when`, arrays [N + 1, ...]."""
    if ground is None:
        return None
    parts: list[dict[str, np.ndarray]] = []
    for begin in range(0, len(when), batch_size):
        seen = episode.observation(when[begin : begin + batch_size], stack)
        if parts and "remembered" in parts[-1]:
            seen[REMEMBERED] = parts[-1]["remembered"][-1:].repeat(len(seen[TASK]), 0)
        parts.append(ground(seen))
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
