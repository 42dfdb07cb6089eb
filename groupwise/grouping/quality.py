"""How good groups are, judged on rewards; the silhouette, which only sees geometry, is a diagnostic."""

from __future__ import annotations

from collections.abc import Callable
from math import comb

import numpy as np
from numpy.typing import NDArray

from groupwise.types import Floats, Ints


def icc1(values: Floats, groups: Ints) -> float:
    """Intraclass correlation of one-way groups: share of the variance of `values` [P] that is between `groups` [P].

    ICC(1) of Shrout and Fleiss (1979), (MSB - MSW) / (MSB + (n0 - 1) MSW), with n0 = (P - sum n_g^2 / P) / (k - 1) for
    unequal sizes. It may be negative; NaN where there is one group, every group has one member, or nothing varies.
    """
    _, ids, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    count, k = len(values), len(sizes)
    if not 1 < k < count:
        return float("nan")
    means = np.bincount(ids, values) / sizes
    between = float((sizes * (means - values.mean()) ** 2).sum()) / (k - 1)
    within = float(((values - means[ids]) ** 2).sum()) / (count - k)
    n0 = (count - float((sizes**2).sum()) / count) / (k - 1)
    total = between + (n0 - 1) * within
    return (between - within) / total if total > 0 else float("nan")


def adjusted_rand(a: Ints, b: Ints) -> float:
    """Agreement of two partitions [P], corrected for chance: 1 the same, about 0 unrelated (Hubert and Arabie 1985)."""
    a, b = np.unique(a, return_inverse=True)[1], np.unique(b, return_inverse=True)[1]
    table = np.bincount(a * (b.max() + 1) + b)
    together, pairs = _pairs(table), comb(len(a), 2)
    in_a, in_b = _pairs(np.bincount(a)), _pairs(np.bincount(b))
    expected = in_a * in_b / max(pairs, 1)
    most = (in_a + in_b) / 2
    return 1.0 if most == expected else (together - expected) / (most - expected)


def stability(size: int, cluster: Callable[[Ints], Ints], rng: np.random.Generator, draws: int = 5) -> float:
    """Mean agreement (ARI) of the clusters of two bootstrap samples of `size` items, on what is in both.

    `cluster`: items [M] -> ids [M]. Near 1 the groups are of the data, near 0 of the sample (Hennig 2007).
    """
    found = []
    for _ in range(draws):
        first, second = (rng.permutation(np.unique(rng.integers(size, size=size))) for _ in range(2))
        a, b = np.full(size, -1), np.full(size, -1)
        a[first], b[second] = cluster(first), cluster(second)
        both = (a >= 0) & (b >= 0)
        if both.sum() > 1:
            found.append(adjusted_rand(a[both], b[both]))
    return float(np.mean(found)) if found else float("nan")


def silhouette(vectors: NDArray[np.float32], groups: Ints) -> float:
    """Mean silhouette of `vectors` [P, F] under the cosine distance (Rousseeuw 1987); a lone member counts 0.

    NaN where there is one group. O(P^2): give it a sample.
    """
    _, ids, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        return float("nan")
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    members = np.eye(len(sizes))[ids]  # [P, k]
    sums = (1 - units.astype(np.float64) @ units.T) @ members
    rows = np.arange(len(ids))
    own = sums[rows, ids] / np.maximum(sizes[ids] - 1, 1)
    others = sums / sizes
    others[rows, ids] = np.inf
    nearest = others.min(1)
    largest = np.maximum(own, nearest)
    score = np.divide(nearest - own, largest, out=np.zeros_like(own), where=largest > 1e-12)
    return float(np.where(sizes[ids] > 1, score, 0.0).mean())


def _pairs(sizes: NDArray[np.int64]) -> int:
    return int((sizes * (sizes - 1) // 2).sum())
