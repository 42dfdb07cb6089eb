"""What past batches teach the advantages of the next: variances, each prompt's history, and the advantages' scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from groupwise.grouping.history import History
from groupwise.grouping.variance import VarianceComponents
from groupwise.types import Evidence

MOST = 1e6  # rollouts, see `_strength`: prompts that hardly differ are as good as equal


class Memory:
    """Of one reward in trees of `levels` = L columns: `evidence` before a batch's rewards are known, `add` after.

    decay: weight of the past at each update, of variances and scale; max_prompts: prompts with a history, 0 for none.
    """

    def __init__(self, levels: int, decay: float = 0.95, max_prompts: int = 2**14) -> None:
        self.variance, self.history = VarianceComponents(levels, decay), History(levels, max_prompts)
        self._decay = decay
        self._square = self._weight = 0.0

    def evidence(self, keys: Sequence[str], levels: ArrayLike) -> Evidence:
        """For a batch with keys [N], its prompts' own, and levels [N, L]. Until `ready` the scale is 1."""
        sums, counts, paths = self.history.entries(keys, levels)
        ready = self.variance.ready
        return Evidence(
            variances=self.variance.estimates(),
            history=(sums, counts, paths) if len(sums) else None,
            ready=ready,
            scale=(self._square / self._weight) ** 0.5 if ready and self._square > 0 else 1.0,
        )

    def add(self, keys: Sequence[str], levels: ArrayLike, rewards: ArrayLike, advantages: ArrayLike) -> None:
        """Learn from keys [N], levels [N, L], rewards [N] and the advantages [N] they had before scaling; N may be 0.

        The scale is the root of the mean square: where successes are rare most batches spread little, and would make a
        mean of their spreads far too small for those that teach. A batch without advantages leaves it as it is.
        """
        self.history.add(keys, levels, rewards, self._strength())
        self.variance.add(rewards, levels)
        square = float(np.square(np.asarray(advantages, dtype=np.float64)).mean()) if len(keys) else 0.0
        if square > 0:
            self._square = self._decay * self._square + square
            self._weight = self._decay * self._weight + 1

    def move(self, paths: Mapping[str, Sequence[int]]) -> None:
        """Tell the new paths [L], by key, of prompts whose groups changed; the others keep theirs."""
        self.history.move(paths)

    def report(self, names: Sequence[str]) -> dict[str, float]:
        """Metrics: the half-life in force (updates; 0: none), the known prompts, the variances of the levels."""
        half_life = self.history.half_life
        return {
            "history/half_life": half_life if np.isfinite(half_life) else 0.0,
            "history/prompts": float(len(self.history)),
            **{
                f"variance/{name}": variance
                for name, variance in zip([*names, "within"], self.variance.estimates().tolist(), strict=True)
            },
        }

    def state(self) -> dict[str, Any]:
        return {
            "variance": self.variance.state(),
            "history": self.history.state(),
            "square": self._square,
            "weight": self._weight,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.variance.load_state(state["variance"])
        self.history.load_state(state["history"])
        self._square, self._weight = float(state["square"]), float(state["weight"])

    def _strength(self) -> float:
        """Rollouts of a prompt that tell as much about it as the mean of all prompts does."""
        if not self.variance.ready:
            return 1.0
        variances = self.variance.estimates()
        between, within = float(variances[:-1].sum()), float(variances[-1])
        return min(max(within / between, 1 / MOST), MOST) if between > 0 else MOST
