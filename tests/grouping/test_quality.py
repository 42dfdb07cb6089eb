from __future__ import annotations

import numpy as np
import pytest

from groupwise.grouping.clusters import Clusters
from groupwise.grouping.quality import adjusted_rand, icc1, silhouette, stability

from .clusters_of import families


def test_icc1_of_shrout_and_fleiss() -> None:
    # their example of 6 targets and 4 judges: ICC(1, 1) = .17
    table = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)
    assert icc1(table.ravel(), np.repeat(np.arange(6), 4)) == pytest.approx(0.166, abs=5e-4)


def test_icc1_is_the_share_between_groups_for_unequal_sizes_too() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(200):
        groups = np.repeat(np.arange(100), rng.integers(1, 9, size=100))
        found.append(icc1(rng.normal(size=100)[groups] + np.sqrt(3) * rng.normal(size=len(groups)), groups))
    assert np.mean(found) == pytest.approx(0.25, abs=0.02)


def test_icc1_where_it_means_nothing() -> None:
    values = np.array([1.0, 2.0, 3.0])
    assert all(np.isnan(icc1(values, np.array(groups))) for groups in ([0, 0, 0], [0, 1, 2]))
    assert np.isnan(icc1(np.ones(4), np.array([0, 0, 1, 1])))
    assert icc1(np.array([0.0, 0, 1, 1]), np.array([5, 5, -7, -7])) == 1


def test_adjusted_rand() -> None:
    a = np.array([0, 0, 0, 1, 1, 1])
    assert adjusted_rand(a, 7 - a) == 1
    assert adjusted_rand(a, np.array([0, 0, 1, 1, 2, 2])) == pytest.approx(0.242424, abs=1e-6)
    assert adjusted_rand(np.arange(6), np.arange(6)) == adjusted_rand(np.zeros(6, int), np.zeros(6, int)) == 1
    rng = np.random.default_rng(0)
    by_chance = [adjusted_rand(rng.integers(5, size=100), rng.integers(3, size=100)) for _ in range(300)]
    assert np.mean(by_chance) == pytest.approx(0, abs=0.005)


def test_silhouette_of_tight_mixed_and_lone_groups() -> None:
    vectors, family = families(np.random.default_rng(0), 4, 60)
    assert silhouette(vectors, family) > 0.9
    assert abs(silhouette(vectors, np.random.default_rng(1).integers(4, size=60))) < 0.2
    assert silhouette(vectors, np.arange(60)) == 0
    assert np.isnan(silhouette(vectors, np.zeros(60, int)))
    # by hand: cosine distances 0 inside the pair and 1 to the other corner
    assert silhouette(np.array([[1, 0], [2, 0], [0, 1]], np.float32), np.array([0, 0, 1])) == pytest.approx(2 / 3)


def test_stability_tells_families_from_noise() -> None:
    def judged(vectors: np.ndarray) -> float:
        def cluster(rows: np.ndarray) -> np.ndarray:
            clusters = Clusters(0.6)
            return np.array([clusters.assign(row, vectors[row], 0) for row in rows])

        return stability(len(vectors), cluster, rng)

    rng = np.random.default_rng(0)
    assert judged(families(rng, 5, 100)[0]) > 0.95
    assert judged(rng.normal(size=(100, 4)).astype(np.float32)) < 0.7
