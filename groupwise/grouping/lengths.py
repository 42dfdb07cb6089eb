"""How long each prompt's completions were when it was last drawn: part of what makes a prompt complex."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from groupwise.types import Floats


class Lengths:
    """Mean tokens a completion, by prompt; beyond `most` prompts those absent longest are forgotten."""

    def __init__(self, most: int = 100_000) -> None:
        self._most = most
        self._known: dict[str, float] = {}  # those absent longest come first

    def past(self, keys: Sequence[str]) -> Floats:
        """[P] of prompts `keys` [P]; NaN for those not known."""
        return np.array([self._known.get(key, np.nan) for key in keys], dtype=np.float64)

    def add(self, keys: Sequence[str], lengths: ArrayLike) -> None:
        """The prompt's key and the tokens of each of N rollouts."""
        names, prompt = np.unique(np.array(keys, dtype=object), return_inverse=True)
        means = np.bincount(prompt, weights=np.asarray(lengths, dtype=np.float64)) / np.bincount(prompt)
        for name, mean in zip(names.tolist(), means.tolist(), strict=True):
            self._known.pop(name, None)
            self._known[name] = mean
        while len(self._known) > self._most:
            del self._known[next(iter(self._known))]

    def state(self) -> dict[str, Any]:
        return {"known": list(self._known.items())}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._known = dict(state["known"])
