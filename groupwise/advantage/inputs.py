"""Checks what comes into an estimator, and sums over groups in O(N)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from groupwise.advantage.tree import parents
from groupwise.types import Floats, Ints

ROUNDING = 1e-12  # of the largest number: sums of a few thousand are not more exact


def checked(rewards: ArrayLike, levels: ArrayLike) -> tuple[Floats, Ints]:
    """rewards [N] as float64, levels [N, L] as int64.

    ValueError when empty, not finite, of shapes that differ, or where ids are not nested.
    """
    values, ids = np.asarray(rewards, dtype=np.float64), np.asarray(levels)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"rewards is {list(values.shape)}; it must be [N] with N > 0")
    if ids.ndim != 2 or ids.shape[0] != values.size or ids.shape[1] == 0:
        raise ValueError(
            f"levels is {list(ids.shape)}; it must be [N, L] with N = {values.size}, as rewards is, and L > 0"
        )
    if not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"levels is {ids.dtype}; it must hold integer ids")
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        # a rollout without a reward is dropped before this, never given a number
        raise ValueError(
            f"reward {values[bad[0]]} of rollout {bad[0]} is not finite ({bad.size} of {values.size} are not)"
        )
    ids = ids.astype(np.int64)
    if ids.shape[1] > 1:
        parents(ids)  # complains where an id lies below two parents
    return values, ids


def unrounded(advantages: Floats, *numbers: Floats) -> Floats:
    """advantages [N], exactly 0 where rounding alone can have left them when `numbers` were added up.

    Divided by their own spread such remains would be gradients of full size; gradients of 0 are skipped.
    """
    largest = max((float(np.abs(x).max(initial=0.0)) for x in numbers), default=0.0)
    return np.where(np.abs(advantages) > ROUNDING * largest, advantages, 0.0)


class Groups:
    """Rollouts that share an id. `index` [N] in 0..M-1, `size` [M]."""

    def __init__(self, ids: Ints) -> None:
        _, first, self.index, self.size = np.unique(ids, return_index=True, return_inverse=True, return_counts=True)
        self._first = first  # [M] position of each group's first rollout

    def sum(self, values: Floats) -> Floats:
        """[M] sum of values [N] in each group."""
        return np.asarray(np.bincount(self.index, weights=values, minlength=self.size.size), dtype=np.float64)

    def centred(self, values: Floats) -> Floats:
        """[N] values minus their group's mean; exactly 0 in a group whose values are all equal."""
        # relative to one of the group's own values: the mean of three .1 is not .1, but zero gradients are skipped
        offset = values - values[self._first][self.index]
        return offset - (self.sum(offset) / self.size)[self.index]

    def std(self, values: Floats) -> Floats:
        """[M] standard deviation with ddof = 1; 0 in a group of one."""
        squares = self.sum(np.square(self.centred(values)))
        return np.sqrt(squares / np.maximum(self.size - 1, 1))


def prompts(levels: Ints) -> Groups:
    """The finest groups, those of the last column of levels [N, L]."""
    return Groups(levels[:, -1])


def whole_batch(levels: Ints) -> Groups:
    """One group of all N."""
    return Groups(np.zeros(len(levels), dtype=np.int64))
