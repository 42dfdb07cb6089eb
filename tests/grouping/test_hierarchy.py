from __future__ import annotations

import numpy as np
import pytest

from groupwise.grouping.hierarchy import Hierarchy

from .clusters_of import assert_same, families


def grown(thresholds: list[float], seed: int = 0, size: int = 150) -> tuple[Hierarchy, list[int], np.ndarray]:
    vectors, family = families(np.random.default_rng(seed), 6, size, noise=0.5)
    tree = Hierarchy(thresholds)
    return tree, [tree.assign(str(i), v, i % 2) for i, v in enumerate(vectors)], family


@pytest.mark.parametrize("thresholds", [[0.9], [0.9, 0.7], [0.95, 0.9, 0.7, 0.5, 0.0]])
def test_levels_are_nested_at_any_depth_and_coarser_ones_are_fewer(thresholds: list[float]) -> None:
    tree, clusters, _ = grown(thresholds)
    paths = tree.paths(np.array(clusters))
    assert paths.shape == (150, len(thresholds))
    assert paths[:, -1].tolist() == clusters
    for column in range(1, len(thresholds)):
        pairs = np.unique(paths[:, column - 1 : column + 1], axis=0)
        assert len(pairs) == len(np.unique(paths[:, column]))
    assert tree.counts() == sorted(tree.counts())


def test_clusters_of_one_level_share_no_domain() -> None:
    tree, clusters, _ = grown([0.9, -1.0])
    coarse = tree.paths(np.array(clusters))[:, 0]
    assert len(np.unique(coarse)) == 2  # everything is similar enough, but for the domains
    assert (coarse[::2] == coarse[0]).all() and (coarse[1::2] == coarse[1]).all()


def test_the_path_of_a_cluster_lasts() -> None:
    tree, clusters, _ = grown([0.8, 0.5])
    before = {cluster: tree.path(cluster) for cluster in set(clusters)}
    for i, vector in enumerate(families(np.random.default_rng(9), 6, 300, noise=0.5)[0]):
        tree.assign(str(i + 75), vector, (i + 75) % 2)  # half of the old prompts elsewhere, and as many new ones
    alive = {cluster: path for cluster, path in before.items() if tree.finest.alive(cluster)}
    assert 0 < len(alive) < len(before)
    assert {cluster: tree.path(cluster) for cluster in alive} == alive


def test_merge_closes_what_has_no_children_left() -> None:
    tree = Hierarchy([0.99, 0.95, 0.9])
    corner = np.eye(3, dtype=np.float32)
    a, b, c = (tree.assign(name, vector, 0) for name, vector in zip("abc", corner, strict=True))
    assert tree.counts() == [3, 3, 3]
    tree.merge(a, b, 0)
    assert tree.counts() == [2, 2, 2]
    assert tree.finest.find("b") == a
    tree.move(tree.finest.members(a)[0][:1], c, a, 0)
    assert tree.counts() == [2, 2, 2]
    assert tree.finest.find("a") == c
    new = tree.split(c, tree.finest.members(c)[0][:1], 0)
    assert tree.counts()[-1] == 3
    assert tree.finest.find("a") == new


def test_a_prompt_that_has_changed_joins_another_cluster() -> None:
    tree, corner = Hierarchy([0.9, 0.6]), np.eye(3, dtype=np.float32)
    for key, place in (("a", 0), ("b", 0), ("c", 1)):
        tree.assign(key, corner[place], 0)
    assert tree.assign("a", corner[1], 0) == tree.finest.find("c")
    assert tree.counts() == [2, 2]
    assert tree.assign("b", corner[2], 0) == 2  # the cluster it was alone in is no more, nor what was above it
    assert tree.counts() == [2, 2]
    assert tree.paths(np.array([1, 2])).tolist() == [[1, 1], [2, 2]]


def test_a_split_stays_under_its_parent() -> None:
    tree = Hierarchy([0.8, -1.0])
    first = tree.assign("a", np.array([1, 0], np.float32), 0)
    for key in "bcd":
        tree.assign(key, np.array([0.8, 0.6], np.float32), 0)
    tree._levels[1]._threshold = 2.0  # whatever opens now opens a parent of its own
    new = tree.split(first, tree.finest.members(first)[0][1:], 0)
    assert tree.path(new)[0] == tree.path(first)[0]
    assert tree.counts() == [1, 2]


def test_resume_is_exact() -> None:
    live, clusters, _ = grown([0.9, 0.6])
    copy = Hierarchy([0.9, 0.6])
    copy.load_state(live.state())
    for tree in (live, copy):
        tree.merge(clusters[0], clusters[2], 0) if clusters[0] != clusters[2] else None
        for i, vector in enumerate(families(np.random.default_rng(4), 9, 100, noise=0.5)[0]):
            tree.assign(f"new {i}", vector, i % 2)
    assert_same(live.state(), copy.state())
