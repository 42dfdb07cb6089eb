"""How much rewards differ between domains, clusters, prompts, and between rollouts of one prompt.

Nested analysis of variance with unequal sizes (Henderson 1953, Biometrics 9:226, method 1; Searle, Casella and
McCulloch 1992, chapter 5). With n_v rollouts and reward sum S_v in group v, and T_l the sum of S_v^2 / n_v over the
groups of level l,

    SS_l = T_l - T_{l-1}        E SS_l = sum over levels k >= l of s_k c_lk        c_lk = a_lk - a_{l-1,k}
    a_lk = sum over groups v of level k of n_v^2 / n_u, where u is the group of level l that holds v

level -1 being the whole batch and the last level the rollouts themselves. SS and c are averaged over batches, and
solved from the finest level up; both averages have the same weights, so the solution is unbiased for any group sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from groupwise.types import Floats, Ints

ENOUGH = 20.0  # within-prompt degrees of freedom before the estimates are worth using
NOTHING = 1e-9  # relative to the rollouts seen: a level with a smaller coefficient was not seen to vary


class VarianceComponents:
    """Running variances [L + 1] of a tree of `levels` = L columns; at each batch the past's weight falls by `decay`.

    A level is known as well as its number of groups allows: ten domains leave a relative standard error of about
    sqrt(2/9), 47 %, whatever the number of rollouts.
    """

    def __init__(self, levels: int, decay: float = 0.95) -> None:
        if levels < 1 or not 0 < decay <= 1:
            raise ValueError(f"levels is {levels}, decay {decay}; levels must be at least 1 and decay in (0, 1]")
        self.levels, self.decay = levels, decay
        self._squares = np.zeros(levels + 1)
        self._coefficients = np.zeros((levels + 1, levels + 1))
        self._within = 0.0  # degrees of freedom, not discounted

    def add(self, rewards: ArrayLike, levels: ArrayLike) -> None:
        """Take in a batch: rewards [N], levels [N, L] nested ids, of meaning in this batch only. N may be 0."""
        values, ids = np.asarray(rewards, dtype=np.float64), np.asarray(levels)
        if ids.shape != (len(values), self.levels):
            raise ValueError(f"levels is {list(ids.shape)}; it must be [N, L] = [{len(values)}, {self.levels}]")
        if not np.isfinite(values).all():
            raise ValueError("rewards must be finite")
        if not len(values):
            return
        squares, coefficients = _sums_of_squares(values - np.median(values), ids)
        self._squares = self.decay * self._squares + squares
        self._coefficients = self.decay * self._coefficients + coefficients
        self._within += float(coefficients[-1, -1])

    @property
    def ready(self) -> bool:
        """Whether enough rollouts shared their prompt to tell noise from difficulty."""
        return self._within >= ENOUGH

    def estimates(self) -> Floats:
        """Between-variances coarse to fine, then the within-prompt variance: [L + 1], each at least 0.

        Cut at 0 here only: cut before averaging they would be biased. Levels of which no batch held two groups in one
        parent are one with the level above: the finest of them has the variance of all, and the others 0. So prompts of
        which each batch had one a task are not taken for equal. While every prompt had one rollout, prompt and noise
        are one number: all of it is given as noise, the prompt as 0, which trusts no single reward.
        """
        result, least = np.zeros(self.levels + 1), NOTHING * float(np.diag(self._coefficients).sum())
        finest = self.levels  # of the levels that are one with the level at hand
        for level in reversed(range(self.levels + 1)):
            own = self._coefficients[level, level]
            if own > least:
                finer = self._coefficients[level, level + 1 :] @ result[level + 1 :]
                result[finest] = (self._squares[level] - finer) / own
            if own > least or level == self.levels:
                finest = level - 1
        if self._coefficients[-1, -1] <= least:
            result[-2:] = 0.0, result[-2]
        return np.maximum(result, 0.0)

    def state(self) -> dict[str, Any]:
        return {
            "squares": self._squares.tolist(),
            "coefficients": self._coefficients.tolist(),
            "within": self._within,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._squares = np.array(state["squares"], dtype=np.float64)
        self._coefficients = np.array(state["coefficients"], dtype=np.float64)
        self._within = float(state["within"])


def _sums_of_squares(values: Floats, levels: Ints) -> tuple[Floats, Floats]:
    """SS [L + 1] of values [N] in the groups of levels [N, L], and the upper triangle c [L + 1, L + 1]."""
    rows = len(values)
    columns = [np.zeros(rows, dtype=np.int64), *levels.T, np.arange(rows)]
    nodes = [np.unique(ids, return_index=True, return_inverse=True, return_counts=True)[1:] for ids in columns]
    totals = [float((np.bincount(index, weights=values) ** 2 / size).sum()) for _, index, size in nodes]
    holding = np.zeros((len(nodes), len(nodes)))
    for coarse, (_, index, size) in enumerate(nodes):
        for fine, (first, _, own) in enumerate(nodes[coarse:], start=coarse):
            holding[coarse, fine] = (own**2 / size[index[first]]).sum()
    coefficients = np.triu(holding[1:, 1:] - holding[:-1, 1:])  # a group is held by none of its own level but itself
    return np.diff(totals), coefficients
