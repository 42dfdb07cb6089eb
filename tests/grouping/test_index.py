from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groupwise.grouping.index import CentroidIndex

from .clusters_of import families

both = pytest.mark.parametrize("exact", [10**6, 0], ids=["exact", "graph"])


def filled(exact: int, size: int, seed: int = 0) -> tuple[CentroidIndex, np.ndarray]:
    vectors = np.random.default_rng(seed).normal(size=(size, 8)).astype(np.float32)
    index = CentroidIndex(exact)
    for key, vector in enumerate(vectors):
        index.put(key, vector)
    return index, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@both
def test_the_nearest_is_found(exact: int) -> None:
    index, units = filled(exact, 50)
    for query in np.random.default_rng(1).normal(size=(40, 8)).astype(np.float32):
        near = units @ (query / np.linalg.norm(query))
        order = np.argsort(-near)[:3]
        assert [key for key, _ in index.nearest(query, 3)] == order.tolist()
        ((key, cosine),) = index.nearest(query)
        assert (key, cosine) == (order[0], pytest.approx(near[order[0]], abs=1e-6))


@both
@settings(max_examples=30)
@given(changes=st.lists(st.tuples(st.sampled_from(["put", "remove"]), st.integers(0, 9)), max_size=40))
def test_any_changes_leave_what_is_there(exact: int, changes: list[tuple[str, int]]) -> None:
    rng, index, there = np.random.default_rng(0), CentroidIndex(exact), {}
    for action, key in changes:
        if action == "put":
            there[key] = rng.normal(size=4).astype(np.float32)
            index.put(key, there[key])
        elif key in there:
            del there[key]
            index.remove(key)
    assert len(index) == len(there)
    found = index.nearest(np.ones(4, np.float32), 10)
    cosines = {key: float(v.sum() / 2 / np.linalg.norm(v)) for key, v in there.items()}
    assert [key for key, _ in found] == sorted(cosines, key=cosines.__getitem__, reverse=True)


def test_an_empty_index_finds_nothing() -> None:
    assert CentroidIndex().nearest(np.ones(3, np.float32)) == []
    assert CentroidIndex().first(np.ones(0, np.float32), 0.5) is None


def test_first_takes_the_oldest_that_is_similar_enough() -> None:
    index = CentroidIndex()
    for key, angle in enumerate([1.5, 0.6, 0.1]):
        index.put(key, np.array([np.cos(angle), np.sin(angle)], np.float32))
    query = np.array([1, 0], np.float32)
    assert index.first(query, 0.8) == (1, pytest.approx(np.cos(0.6)))
    assert index.nearest(query)[0][0] == 2
    assert index.first(query, 0.999) is None


@both
def test_a_loaded_index_goes_on_as_the_live_one(exact: int) -> None:
    live, _ = filled(exact, 300)
    copy = CentroidIndex(exact)
    copy.load_state(live.state())
    for key, vector in enumerate(np.random.default_rng(2).normal(size=(300, 8)).astype(np.float32)):
        for index in (live, copy):
            index.put(key + 150, vector)  # half of them move, half are new
    assert live.state()["graph"] == copy.state()["graph"]
    for query in np.random.default_rng(3).normal(size=(50, 8)).astype(np.float32):
        assert live.nearest(query, 5) == copy.nearest(query, 5)


def test_recall_of_the_graph_among_clustered_centroids() -> None:
    rng = np.random.default_rng(0)
    centroids, _ = families(rng, 200, 3000, noise=0.4)
    index = CentroidIndex(exact=0)
    for key, vector in enumerate(centroids):
        index.put(key, vector)
    units = centroids / np.linalg.norm(centroids, axis=1, keepdims=True)
    queries = centroids[rng.integers(3000, size=500)] + 0.3 * rng.normal(size=(500, 16)).astype(np.float32)
    hits = [index.nearest(query)[0][0] == int((units @ query).argmax()) for query in queries]
    assert np.mean(hits) >= 0.98


def test_the_graph_follows_centroids_that_move() -> None:
    index, _ = filled(0, 800)
    moved = np.random.default_rng(5).normal(size=(800, 8)).astype(np.float32)
    for key, vector in enumerate(moved):
        index.put(key, vector)
    assert np.mean([index.nearest(vector)[0][0] == key for key, vector in enumerate(moved)]) >= 0.98
