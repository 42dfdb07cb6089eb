"""A tree of clusters of any depth: prompts in clusters, and those merged at falling similarity thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from groupwise.grouping.clusters import Clusters, Join
from groupwise.grouping.features import Vectors
from groupwise.types import Ints


class Hierarchy:
    """`thresholds`: cosines, falling, finest level first; each level clusters the centroids of the one before.

    A cluster has one parent and keeps it, so the levels are nested and ids last; a prompt whose vector has left its
    cluster joins another. `domain` is above all of them. The founding articles' hierarchy is `join="first"` at .9 and
    .7; it departs as one level of it does, see `Clusters`, and in that coarser levels group centroids, not prompts.
    """

    def __init__(self, thresholds: Sequence[float], join: Join = "nearest") -> None:
        self._levels = [Clusters(threshold, join) for threshold in thresholds]

    @property
    def finest(self) -> Clusters:
        return self._levels[0]

    def bound(self, clusters: int, prompts: int) -> None:
        """At most so many clusters on each level, and so many remembered prompts."""
        for level in self._levels:
            level.most_clusters = clusters
        self.finest.most_members = prompts

    def assign(self, key: str, vector: Vectors, domain: int) -> int:
        """The finest cluster of a prompt, which now has `vector` [F]."""
        if self.finest.strays(key, vector):
            left = self.finest.find(key)
            self.finest.forget(key)
            if self.finest.alive(left):
                self._lift(left, domain)
            else:
                self._close(left)
        cluster = self.finest.assign(key, vector, domain)
        self._lift(cluster, domain)
        return cluster

    def paths(self, clusters: Ints) -> Ints:
        """[M, levels] ids, coarse to fine, of finest clusters [M]."""
        known, inverse = np.unique(clusters, return_inverse=True)
        found = [self.path(int(cluster)) for cluster in known]
        return np.array(found, np.int64).reshape(len(known), len(self._levels))[inverse]

    def path(self, cluster: int) -> list[int]:
        """[levels] ids, coarse to fine, of a finest cluster and what is above it."""
        path = [cluster]
        for level in self._levels[1:]:
            path.append(level.find(path[-1]))
        return path[::-1]

    def counts(self) -> list[int]:
        """Clusters of each level, coarse to fine."""
        return [len(level) for level in reversed(self._levels)]

    def split(self, cluster: int, rows: Ints, domain: int) -> int:
        """Move members at `rows` to a new cluster under the same parent; returns its id."""
        new = self.finest.open(domain)
        self.finest.relabel(rows, new)
        self._lift(cluster, domain)
        for above in self._levels[1:2]:
            above.enter(new, self.finest.mean(new).astype(np.float32), above.find(cluster))
        self._lift(new, domain)
        return new

    def merge(self, into: int, cluster: int, domain: int) -> None:
        """Move all members of `cluster` to `into`; the clusters above that lose their last child with it close too."""
        self.finest.relabel(self.finest.members(cluster)[0], into)
        self.finest.drop(cluster)
        self._close(cluster)
        self._lift(into, domain)

    def move(self, rows: Ints, into: int, cluster: int, domain: int) -> None:
        """Move members at `rows` of `cluster` to `into`."""
        if len(rows) == len(self.finest.members(cluster)[0]):
            self.merge(into, cluster, domain)
            return
        self.finest.relabel(rows, into)
        self._lift(cluster, domain)
        self._lift(into, domain)

    def _lift(self, cluster: int, domain: int) -> None:
        """Tell the levels above where a cluster now is."""
        for below, level in pairwise(self._levels):
            cluster = level.assign(cluster, below.mean(cluster).astype(np.float32), domain)

    def _close(self, cluster: int) -> None:
        for level in self._levels[1:]:
            parent = level.find(cluster)
            level.forget(cluster)
            if level.alive(parent):
                return
            cluster = parent

    def state(self) -> dict[str, Any]:
        return {"levels": [level.state() for level in self._levels]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        for level, saved in zip(self._levels, state["levels"], strict=True):
            level.load_state(saved)
