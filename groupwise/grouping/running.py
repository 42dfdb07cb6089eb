"""Running means of what each update shows, with their standard errors: how decisions tell a difference from noise."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any


class RunningMean:
    """Weighted mean of values, one an update, the weight of older ones falling by `decay` an update; 1: none forgotten.

    Its standard error is sqrt(variance / effective number), that number being (sum w)^2 / sum w^2 (Kish 1965), with the
    variance unbiased: values of different updates count as independent.
    """

    def __init__(self, decay: float = 1.0) -> None:
        self._decay = decay
        self.count = 0
        self.mean = 0.0
        self._weight = self._weight_squares = self._squares = 0.0

    def add(self, value: float) -> None:
        self.count += 1
        self._weight = self._decay * self._weight + 1
        self._weight_squares = self._decay**2 * self._weight_squares + 1
        shift = value - self.mean
        self.mean += shift / self._weight
        self._squares = self._decay * self._squares + shift * (value - self.mean)

    @property
    def standard_error(self) -> float:
        """inf with fewer than two values."""
        effective = self._weight**2 / self._weight_squares if self.count > 1 else 1.0
        if effective <= 1 + 1e-9:
            return float("inf")
        return sqrt(max(self._squares / self._weight, 0.0) / (effective - 1))

    @property
    def z(self) -> float:
        """The mean in standard errors; 0 where all values are 0, or too few."""
        return (
            self.mean / self.standard_error if self.standard_error > 0 else 0.0 if self.mean == 0 else _sure(self.mean)
        )

    def state(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)


def _sure(mean: float) -> float:
    return float("inf") if mean > 0 else float("-inf")
