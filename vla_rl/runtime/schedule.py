"""What is due when."""

from __future__ import annotations

from typing import Any


class Schedule:
    """Tells when a step count has passed the next multiple of an interval (0: never)."""

    def __init__(self, step: int) -> None:
        self._start = step
        self._done: dict[str, int] = {}  # the step that each was done at

    def now(self, what: str, step: int, every: int) -> bool:
        """Whether `what` is due at `step`, and has not been done since it became so."""
        if every <= 0:
            return False
        due = step // every > self._done.get(what, self._start) // every
        if due:
            self._done[what] = step
        return due

    def put_off(self, what: str, step: int, every: int) -> None:
        """Have `what` be due still, which was not done at `step` after all."""
        self._done[what] = step // every * every - 1

    def state_dict(self) -> dict[str, Any]:
        """When each was done last."""
        return {"start": self._start, "done": dict(self._done)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave, with the same intervals or others."""
        self._start, self._done = state["start"], dict(state["done"])
