"""EBPO's global prior: mean and variances of all rewards so far, by Welford's algorithm.

Batches are merged as by Chan, Golub and LeVeque (1983). All past counts alike: nothing is forgotten, as in the paper
(arXiv 2602.05165). The two variances are the one-way analysis of variance: `within` is the pooled variance of rewards
around their prompt's mean, `between` the variance of the prompts' means less what `within` explains of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


class RunningPrior:
    def __init__(self) -> None:
        # rewards: sum of squares around their prompts' means, and its degrees of freedom
        self._squares, self._freedom = 0.0, 0
        # prompts' means: how many, their mean, sum of squares around it, and the sum of 1/n
        self._count, self._mean, self._spread, self._shares = 0, 0.0, 0.0, 0.0

    def add(self, rewards: ArrayLike, prompts: ArrayLike) -> None:
        """rewards [N], prompts [N] ids within the batch; a prompt that comes back counts as another."""
        values = np.asarray(rewards, dtype=np.float64)
        if not values.size:
            return
        _, index, size = np.unique(np.asarray(prompts), return_inverse=True, return_counts=True)
        means = np.bincount(index, weights=values) / size
        self._squares += float(np.square(values - means[index]).sum())
        self._freedom += int((size - 1).sum())
        count, step = self._count + len(means), float(means.mean()) - self._mean
        self._spread += float(np.square(means - means.mean()).sum()) + step**2 * self._count * len(means) / count
        self._mean += step * len(means) / count
        self._shares += float((1 / size).sum())
        self._count = count

    def read(self) -> tuple[float, float, float] | None:
        """Mean, between and within, in units of the reward and its square; None before two rollouts of one prompt."""
        if not self._freedom:
            return None
        within = self._squares / self._freedom
        spread = self._spread / (self._count - 1) if self._count > 1 else 0.0
        return self._mean, max(0.0, spread - within * self._shares / self._count), within

    def state(self) -> dict[str, Any]:
        return {name.removeprefix("_"): value for name, value in vars(self).items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, f"_{name}", value)
