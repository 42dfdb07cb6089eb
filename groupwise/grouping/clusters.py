"""Clusters formed online: a newcomer joins the most similar centroid, or opens a cluster where none is near."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from groupwise.grouping.features import Vectors
from groupwise.grouping.index import EXACT, CentroidIndex
from groupwise.types import Floats, Ints

Join = Literal["nearest", "first"]


class Clusters:
    """Leader clustering (Hartigan 1975) within domains, with centroids that are the means of their members.

    A member stays where it is until `relabel` or `forget` takes it away; when it comes back with another vector its
    centroid follows. `strays` tells when it should be let go.
    Ids are never used twice. `join="first"` is the founding articles' form, the *first* group above the threshold: it
    departs in that the order of the groups decides rather than similarity, and that every centroid is looked at.

    `most_clusters` and `most_members` may change at any time. At the first bound a newcomer joins the nearest cluster
    whatever its similarity; beyond the second the member that was absent longest is forgotten, and stays in its mean.
    """

    def __init__(self, threshold: float, join: Join = "nearest", exact: int = EXACT) -> None:
        self._threshold, self._join, self._exact = threshold, join, exact
        self.most_clusters, self.most_members = 2**31, 2**31
        self._index: dict[int, CentroidIndex] = {}  # by domain
        self._means: Floats = np.zeros((0, 0))  # [ids, F]
        self._counts: Floats = np.zeros(0)  # [ids] members that a mean is of; 0: the cluster is no more
        self._domains: Ints = np.zeros(0, np.int64)  # [ids]
        self._made = 0  # ids given so far
        self._row: dict[Hashable, int] = {}  # of a member; those absent longest come first
        self._vectors: Vectors = np.zeros((0, 0), np.float32)  # [rows, F]
        self._cluster: Ints = np.zeros(0, np.int64)  # [rows]; -1: the row is free
        self._free: list[int] = []

    def __len__(self) -> int:
        return sum(map(len, self._index.values()))

    def assign(self, key: Hashable, vector: Vectors, domain: int) -> int:
        """The cluster of member `key`, which now has `vector` [F]."""
        row = self._row.pop(key, None)
        if row is not None and self._domains[self._cluster[row]] == domain:
            cluster = int(self._cluster[row])
            self._means[cluster] += (vector - self._vectors[row]) / self._counts[cluster]
        else:
            cluster = self._join_or_open(vector, domain)
            self._add(cluster, vector)
        self._remember(key, row, vector, cluster)
        self._index[domain].put(cluster, self._means[cluster])
        return cluster

    def enter(self, key: Hashable, vector: Vectors, cluster: int) -> None:
        """A newcomer joins this cluster, however similar they are."""
        self._add(cluster, vector)
        self._remember(key, None, vector, cluster)
        self._index[int(self._domains[cluster])].put(cluster, self._means[cluster])

    def strays(self, key: Hashable, vector: Vectors) -> bool:
        """Whether member `key`, which now has `vector` [F], has left its centroid's neighbourhood by its own change.

        One that never was near, since its cluster was merged or there was no room for another, does not stray.
        """
        row = self._row.get(key)
        if row is None or np.array_equal(vector, self._vectors[row]):
            return False
        mean = self._means[self._cluster[row]]
        return _cosine(vector, mean) < min(self._threshold, _cosine(self._vectors[row], mean))

    def find(self, key: Hashable) -> int:
        """The cluster of a member; -1 where it is not known."""
        row = self._row.get(key)
        return -1 if row is None else int(self._cluster[row])

    def find_all(self, keys: Sequence[Hashable]) -> Ints:
        """[M] the clusters of members; -1 where one is not known."""
        rows = np.array([self._row.get(key, -1) for key in keys], np.int64)
        return np.where(rows >= 0, self._cluster[rows], -1) if len(self._cluster) else rows

    def alive(self, cluster: int) -> bool:
        return bool(self._counts[cluster] > 0)

    def mean(self, cluster: int) -> Floats:
        return np.array(self._means[cluster])

    def domains(self, clusters: Ints) -> Ints:
        """[M] the domains of clusters [M]."""
        return np.array(self._domains[clusters])

    def members(self, cluster: int) -> tuple[Ints, Vectors]:
        """Rows [M] of a cluster's remembered members, and their vectors [M, F]."""
        rows = np.flatnonzero(self._cluster == cluster)
        return rows, self._vectors[rows]

    def sample(self, count: int, rng: np.random.Generator) -> tuple[Vectors, Ints]:
        """Vectors [M, F] and clusters [M] of up to `count` remembered members."""
        rows = np.flatnonzero(self._cluster >= 0)
        rows = np.sort(rng.permutation(rows)[:count])
        return self._vectors[rows], self._cluster[rows]

    def neighbour(self, cluster: int) -> int | None:
        """The most similar other cluster of the same domain."""
        near = self._index[int(self._domains[cluster])].nearest(self._means[cluster], count=2)
        return next((other for other, _ in near if other != cluster), None)

    def open(self, domain: int) -> int:
        """A new cluster without members."""
        if self._made == len(self._counts):
            more = max(16, self._made)
            self._means = np.concatenate([self._means, np.zeros((more, self._means.shape[1]))])
            self._counts = np.concatenate([self._counts, np.zeros(more)])
            self._domains = np.concatenate([self._domains, np.zeros(more, np.int64)])
        self._domains[self._made] = domain
        self._made += 1
        return self._made - 1

    def relabel(self, rows: Ints, cluster: int) -> None:
        """Move members to another cluster; means are then those of the remembered members."""
        touched = {cluster, *self._cluster[rows].tolist()}
        self._cluster[rows] = cluster
        for changed in touched:
            self._recount(changed)

    def drop(self, cluster: int) -> None:
        """Close a cluster; its remembered members, if any, are forgotten."""
        self._forget(key for key, row in list(self._row.items()) if self._cluster[row] == cluster)
        self._recount(cluster)

    def forget(self, key: Hashable) -> None:
        """Take a member out of its cluster and the mean; a cluster closes with its last member."""
        row = self._row.get(key)
        if row is None:
            return
        cluster = int(self._cluster[row])
        self._counts[cluster] -= 1
        index = self._index[int(self._domains[cluster])]
        if self._counts[cluster] > 0:
            self._means[cluster] -= (self._vectors[row] - self._means[cluster]) / self._counts[cluster]
            index.put(cluster, self._means[cluster])
        else:
            index.remove(cluster)
        self._forget([key])

    def _add(self, cluster: int, vector: Vectors) -> None:
        self._counts[cluster] += 1
        self._means[cluster] += (vector - self._means[cluster]) / self._counts[cluster]

    def _join_or_open(self, vector: Vectors, domain: int) -> int:
        if not self._means.shape[1]:
            self._means = np.zeros((len(self._means), len(vector)))
            self._vectors = np.zeros((0, len(vector)), np.float32)
        index = self._index.setdefault(domain, CentroidIndex(self._exact))
        if self._join == "first":
            found = index.first(vector, self._threshold)
        else:
            found = next(iter(index.nearest(vector)), None)
        if found is None and len(self) >= self.most_clusters:
            found = next(iter(index.nearest(vector)), None)
        if found and (found[1] >= self._threshold or len(self) >= self.most_clusters):
            return found[0]
        return self.open(domain)

    def _remember(self, key: Hashable, row: int | None, vector: Vectors, cluster: int) -> None:
        if row is None:
            if len(self._row) >= self.most_members:
                self._forget([next(iter(self._row))])
            if not self._free:
                rows, more = len(self._cluster), max(64, len(self._cluster))
                self._vectors = np.concatenate([self._vectors, np.zeros((more, len(vector)), np.float32)])
                self._cluster = np.concatenate([self._cluster, np.full(more, -1, np.int64)])
                self._free = list(range(rows + more - 1, rows - 1, -1))
            row = self._free.pop()
        self._row[key], self._vectors[row], self._cluster[row] = row, vector, cluster

    def _forget(self, keys: Iterable[Hashable]) -> None:
        for key in keys:
            row = self._row.pop(key, None)
            if row is not None:
                self._cluster[row] = -1
                self._free.append(row)

    def _recount(self, cluster: int) -> None:
        _, vectors = self.members(cluster)
        index = self._index[int(self._domains[cluster])]
        was = self._counts[cluster] > 0
        self._counts[cluster] = len(vectors)
        if len(vectors):
            self._means[cluster] = vectors.mean(0, dtype=np.float64)
            index.put(cluster, self._means[cluster])
        elif was:
            index.remove(cluster)

    def state(self) -> dict[str, Any]:
        return {
            "index": {domain: index.state() for domain, index in self._index.items()},
            "means": self._means.copy(),
            "counts": self._counts.copy(),
            "domains": self._domains.copy(),
            "made": self._made,
            "members": list(self._row.items()),
            "vectors": self._vectors.copy(),
            "cluster": self._cluster.copy(),
            "free": list(self._free),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._index = {domain: CentroidIndex(self._exact) for domain in state["index"]}
        for domain, saved in state["index"].items():
            self._index[domain].load_state(saved)
        self._means, self._counts = np.array(state["means"], np.float64), np.array(state["counts"], np.float64)
        self._domains, self._made = np.array(state["domains"], np.int64), state["made"]
        self._row = dict(state["members"])
        self._vectors, self._cluster = np.array(state["vectors"], np.float32), np.array(state["cluster"], np.int64)
        self._free = list(state["free"])


def _cosine(one: Vectors, other: Floats) -> float:
    """Of two vectors [F]; 0 where one is 0."""
    return float(one @ other / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-12))
