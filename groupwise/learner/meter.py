"""Numbers of an update, gathered over its micro-batches and, where there are several, over its processes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping


class Meter:
    """Weighted means, and maxima."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._weights: dict[str, float] = defaultdict(float)
        self._largest: dict[str, float] = {}

    def add(self, values: Mapping[str, float], weight: float) -> None:
        for name, value in values.items():
            self._sums[name] += value * weight
            self._weights[name] += weight

    def largest(self, name: str, value: float) -> None:
        self._largest[name] = max(self._largest.get(name, value), value)

    def merge(self, others: Iterable[Meter]) -> None:
        """Take in what others gathered."""
        for other in others:
            for name, total in other._sums.items():
                self._sums[name] += total
                self._weights[name] += other._weights[name]
            for name, value in other._largest.items():
                self.largest(name, value)

    def results(self) -> dict[str, float]:
        return {name: total / (self._weights[name] or 1.0) for name, total in self._sums.items()} | self._largest
