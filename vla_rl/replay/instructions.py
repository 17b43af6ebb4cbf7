"""Instructions as small integers: a table that forgets a text with its last row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class Instructions:
    """Interned texts with a count of the rows that use each; at most as many texts as rows are alive."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._free: list[int] = []
        self._texts = np.full(16, "", dtype=object)
        self._uses = np.zeros(16, np.int64)

    def __len__(self) -> int:
        return len(self._ids)

    def take(self, texts: Sequence[str]) -> np.ndarray:
        """Count one use more of each text; their ids, int32 [len(texts)]."""
        ids = np.fromiter((self._intern(text) for text in texts), np.int32, len(texts))
        np.add.at(self._uses, ids, 1)
        return ids

    def drop(self, ids: np.ndarray) -> None:
        """Count one use less of each id; texts without uses are forgotten and their ids reused."""
        np.subtract.at(self._uses, ids, 1)
        for unused in np.unique(ids[self._uses[ids] == 0]).tolist():
            del self._ids[self._texts[unused]]
            self._texts[unused] = ""
            self._free.append(unused)

    def texts(self, ids: np.ndarray) -> list[Any]:
        """The texts of `ids` int [...], in lists like them."""
        return self._texts[ids].tolist()

    def state(self) -> dict:
        """The whole table, for JSON."""
        return {"texts": {text: [i, int(self._uses[i])] for text, i in self._ids.items()}, "free": list(self._free)}

    @classmethod
    def restored(cls, state: dict) -> Instructions:
        """The table that `state` describes."""
        table = cls()
        rows = state["texts"]
        table._grow(max([i for i, _ in rows.values()] + state["free"], default=0) + 1)
        for text, (i, uses) in rows.items():
            table._ids[text], table._texts[i], table._uses[i] = i, text, uses
        table._free = list(state["free"])
        return table

    def _intern(self, text: str) -> int:
        known = self._ids.get(text)
        if known is not None:
            return known
        i = self._free.pop() if self._free else len(self._ids)
        self._grow(i + 1)
        self._ids[text], self._texts[i] = i, text
        return i

    def _grow(self, size: int) -> None:
        if size > len(self._texts):
            more = max(size, 2 * len(self._texts)) - len(self._texts)
            self._texts = np.concatenate([self._texts, np.full(more, "", dtype=object)])
            self._uses = np.concatenate([self._uses, np.zeros(more, np.int64)])
