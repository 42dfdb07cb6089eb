"""The centroid most similar to a vector, among few by looking at all of them and among many in logarithmic time."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any

import numpy as np

from groupwise.grouping.features import Vectors

EXACT = 2**20  # numbers in all centroids up to which one product with them is faster than the graph, and exact
CANDIDATES = 10  # that the graph proposes; they are compared exactly
EFFORT: dict[str, Any] = {"expansion_add": 64, "expansion_search": 32}  # of the graph: how many it looks at
STALE = 1e-3  # a centroid that has moved by more than this (1 - cosine) is entered anew in the graph


class CentroidIndex:
    """Centroids [C, F] by id; once C F is above `exact`, an HNSW graph finds them (Malkov, Yashunin, arXiv 1603.09320).

    Once the graph is there it stays. A graph that was saved and loaded takes later additions differently than the one
    that was not, so `state` replaces the live graph too: the run that goes on and the one that is resumed are the same.
    """

    def __init__(self, exact: int = EXACT) -> None:
        self._exact = exact
        self._row: dict[int, int] = {}  # of an id
        self._ids = np.zeros(0, np.int64)
        self._units = np.zeros((0, 0), np.float32)  # [capacity, F], of length 1
        self._entered = np.zeros((0, 0), np.float32)  # [capacity, F], as the graph has them
        self._graph: Any = None

    def __len__(self) -> int:
        return len(self._row)

    def nearest(self, vector: Vectors, count: int = 1) -> list[tuple[int, float]]:
        """Up to `count` (id, cosine), the most similar first."""
        size, unit = len(self._row), _unit(vector)
        if not size:
            return []
        if self._graph is None:
            rows, near = np.arange(size), self._units[:size] @ unit
        else:
            found = self._graph.search(unit, max(CANDIDATES, count), threads=1).keys
            rows = np.array([self._row[int(key)] for key in found])
            near = self._units[rows] @ unit
        best = [int(near.argmax())] if count == 1 else np.argsort(-near, kind="stable")[:count].tolist()
        return [(int(self._ids[rows[i]]), float(near[i])) for i in best]

    def first(self, vector: Vectors, threshold: float) -> tuple[int, float] | None:
        """The oldest centroid with at least this cosine: a look at all of them."""
        if not self._row:
            return None
        near = self._units[: len(self._row)] @ _unit(vector)
        found = min((int(self._ids[i]) for i in np.flatnonzero(near >= threshold)), default=None)
        return None if found is None else (found, float(near[self._row[found]]))

    def put(self, key: int, vector: Vectors) -> None:
        """Add a centroid, or move it."""
        unit, row = _unit(vector), self._row.get(key)
        if row is None:
            row = self._row[key] = len(self._row)
            if row == len(self._ids):
                self._make_room(len(unit))
            self._ids[row], self._units[row] = key, unit
            if self._graph is None and len(self._row) * len(unit) > self._exact:
                self._graph = _graph(self._ids[:row], self._units[:row])
                self._entered[:row] = self._units[:row]
            self._enter(key, row, unit)
            return
        self._units[row] = unit
        if self._graph is not None and float(self._entered[row] @ unit) < 1 - STALE:
            self._graph.remove(key)
            self._enter(key, row, unit)

    def remove(self, key: int) -> None:
        row, last = self._row.pop(key), len(self._row)  # the last row takes the place that becomes free
        if row != last:
            self._ids[row] = self._ids[last]
            self._units[row], self._entered[row] = self._units[last], self._entered[last]
            self._row[int(self._ids[row])] = row
        if self._graph is not None:
            self._graph.remove(key)

    def _enter(self, key: int, row: int, unit: Vectors) -> None:
        if self._graph is not None:
            self._graph.add(key, unit, threads=1)
            self._entered[row] = unit

    def _make_room(self, width: int) -> None:
        used = len(self._ids)
        more = max(1, used)  # there may be as many indices as domains
        self._ids = np.concatenate([self._ids, np.zeros(more, np.int64)])
        self._units, self._entered = (
            np.concatenate([array.reshape(used, width), np.zeros((more, width), np.float32)])
            for array in (self._units, self._entered)
        )

    def state(self) -> dict[str, Any]:
        size = len(self._row)
        graph = None if self._graph is None else bytes(self._graph.save())
        self._graph = _restored(graph)
        return {
            "ids": self._ids[:size].copy(),
            "units": self._units[:size].copy(),
            "entered": self._entered[:size].copy(),
            "graph": graph,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._ids = np.array(state["ids"], np.int64)
        self._units, self._entered = (np.array(state[name], np.float32) for name in ("units", "entered"))
        self._row = {int(key): row for row, key in enumerate(self._ids)}
        self._graph = _restored(state["graph"])


def _unit(vector: Vectors) -> Vectors:
    norm = sqrt(float(vector @ vector))
    return np.asarray(vector / (norm if norm > 0 else 1.0), np.float32)


def _graph(ids: Any, units: Vectors) -> Any:
    from usearch.index import Index

    graph = Index(ndim=units.shape[1], metric="cos", dtype="f32", connectivity=16, **EFFORT)
    graph.add(ids, units, threads=1)
    return graph


def _restored(graph: bytes | None) -> Any:
    if graph is None:
        return None
    from usearch.index import Index

    restored: Any = Index.restore(graph)
    for name, value in EFFORT.items():  # which are not saved
        setattr(restored, name, value)
    return restored
