"""SPO's value tracker: each prompt's pass rate over past batches, forgotten as fast as the policy moves.

    v = alpha / (alpha + beta)                              read before the batch; alpha = beta = 1/2 for a new prompt
    alpha <- rho alpha + sum r,  beta <- rho beta + sum (1 - r)         over the prompt's rollouts of the batch
    rho = clip(2^(-D / D_HALF), RHO_LEAST, RHO_MOST)        D: how far the policy moved since the prompt was last seen

Single-stream Policy Optimization, arXiv 2509.13232; constants as in the public implementation. Departures: D there is
the mean |difference of log-probs| on the prompt's own last completion, which costs another forward pass; here it is the
path that the policy has gone, the sum of the updates' divergences, one number for all prompts. There the first values
are rates of eight completions made before training; here every prompt starts from its prior. Several rollouts of a
prompt are forgotten once and counted together; the prompts absent longest are dropped beyond `most`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from groupwise.types import Floats

D_HALF = 0.06  # of |difference of log-probs| a token: a past reward then counts half
RHO_LEAST, RHO_MOST = 0.875, 0.96
NEW = (0.5, 1.0)  # alpha and alpha + beta


class Tracker:
    """alpha, alpha + beta, and the length of the policy's path at the last visit, by prompt. O(rollouts) a batch."""

    def __init__(self, most: int = 100_000) -> None:
        self._most = most
        self._path = 0.0
        self._known: dict[Hashable, tuple[float, float, float]] = {}  # those absent longest come first

    def values(self, keys: Sequence[Hashable]) -> Floats:
        """Values [N] of the rollouts' prompts; 1/2 for a prompt that was never seen."""
        pairs = (self._known.get(key, NEW)[:2] for key in keys)
        return np.array([passed / count for passed, count in pairs], dtype=np.float64)

    def add(self, keys: Sequence[Hashable], rewards: ArrayLike) -> None:
        """Count a batch's rewards [N], meant to be in [0, 1], after its values were read."""
        batch: dict[Hashable, list[float]] = {}
        for key, reward in zip(keys, np.asarray(rewards, dtype=np.float64).tolist(), strict=True):
            batch.setdefault(key, []).append(reward)
        for key, rewards_of in batch.items():
            passed, count, seen = self._known.pop(key, (*NEW, self._path))
            rho = min(max(2 ** (-(self._path - seen) / D_HALF), RHO_LEAST), RHO_MOST)
            self._known[key] = (rho * passed + sum(rewards_of), rho * count + len(rewards_of), self._path)
        while len(self._known) > self._most:
            del self._known[next(iter(self._known))]

    def moved(self, divergence: float) -> None:
        """The policy was updated: mean |difference of log-probs| a token between before and after."""
        self._path += divergence

    def state(self) -> dict[str, Any]:
        return {
            "path": self._path,
            "keys": list(self._known),
            "known": np.array(list(self._known.values()), dtype=np.float64).reshape(-1, 3),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._path = state["path"]
        rows = (tuple(row) for row in np.asarray(state["known"]).tolist())
        self._known = dict(zip(state["keys"], rows, strict=True))
