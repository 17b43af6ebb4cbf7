"""Worlds that shift in mid-run: which stage holds follows from how many episodes there have been."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from vla_rl import registry

T = TypeVar("T")


def stages_of(kind: type[T], given: Sequence[Any], path: str = "randomise") -> tuple[T, ...]:
    """Stages as they are, or from their fields. Raises ConfigError for fields that `kind` has not."""
    return tuple(
        stage if isinstance(stage, kind) else registry.validated(kind, stage, f"{path}[{i}]")
        for i, stage in enumerate(given)
    )


def check_stage(from_episode: int) -> None:
    """Raise ValueError for a stage that begins before the first episode."""
    if from_episode < 0:
        raise ValueError(f"from_episode must be at least 0, got {from_episode}")


class Shifting:
    """What an environment has in common with others whose world shifts: it counts its episodes.

    A stage holds from its `from_episode` on, until another one has begun.
    """

    _stages: tuple[Any, ...] = ()
    _stage: int | None = None
    """The index of the one that holds; None before the first."""
    _episodes, _stride = 0, 1

    @property
    def shifts(self) -> bool:
        """Whether the number of episodes decides what the world is like."""
        return any(stage.from_episode for stage in self._stages)

    def continue_after(self, episodes: int, stride: int = 1) -> None:
        """Go on as where there have been so many episodes; each further one counts as `stride`.

        Where `randomise` lists several stages, it decides which of them holds. A run of B environments has a stride of
        B; with 0 the world stays in its stage.
        """
        if min(episodes, stride) < 0:
            raise ValueError(f"episodes and stride: at least 0, got {episodes} and {stride}")
        self._episodes, self._stride = episodes, stride

    def _next_episode(self) -> Any | None:
        """Count an episode that begins; the stage that holds in it, None before the first."""
        begun = [i for i, stage in enumerate(self._stages) if stage.from_episode <= self._episodes]
        self._stage = max(begun, key=lambda i: self._stages[i].from_episode) if begun else None
        self._episodes += self._stride
        return None if self._stage is None else self._stages[self._stage]
