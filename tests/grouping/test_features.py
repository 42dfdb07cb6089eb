from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupwise.grouping.features import Features, Standardiser, angles, combine

WEIGHTS = {"semantic": 0.4, "reward": 0.3, "complexity": 0.2, "time": 0.1}


def features(rng: np.random.Generator, size: int = 6) -> Features:
    return Features(
        embedding=rng.normal(size=(size, 5)).astype(np.float32),
        reward=rng.normal(size=(size, 2)),
        complexity=rng.normal(size=(size, 3)),
        time=rng.random(size),
    )


def test_the_product_is_the_weighted_mean_of_four_similarities() -> None:
    given = features(np.random.default_rng(0))
    vectors = combine(WEIGHTS, given, given.reward, given.complexity)
    units = given.embedding / np.linalg.norm(given.embedding, axis=1, keepdims=True)
    parts = {
        "semantic": units @ units.T,
        "reward": angles(given.reward) @ angles(given.reward).T,
        "complexity": angles(given.complexity) @ angles(given.complexity).T,
        "time": np.cos(np.pi * (given.time[:, None] - given.time)),
    }
    expected = sum(weight * parts[name] for name, weight in WEIGHTS.items())
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_only_the_ratios_of_the_weights_count_and_a_weight_of_zero_takes_no_room() -> None:
    given = features(np.random.default_rng(1))
    doubled = {name: 2 * weight for name, weight in WEIGHTS.items()}
    one, two = (combine(w, given, given.reward, given.complexity) for w in (WEIGHTS, doubled))
    np.testing.assert_array_equal(one, two)
    alone = combine({**dict.fromkeys(WEIGHTS, 0.0), "semantic": 2.0}, given, given.reward, given.complexity)
    assert alone.shape == (6, 5)


def test_what_is_not_known_counts_as_average() -> None:
    given = features(np.random.default_rng(2))
    unknown, average = np.full_like(given.reward, np.nan), np.zeros_like(given.reward)
    new, known = (combine(WEIGHTS, given, reward, given.complexity) for reward in (unknown, average))
    np.testing.assert_array_equal(new, known)
    np.testing.assert_allclose(np.linalg.norm(new, axis=1), 1, atol=1e-6)
    half = np.where(np.arange(2) == 0, np.nan, given.reward)  # and so does a column of it
    np.testing.assert_array_equal(angles(half), angles(np.nan_to_num(half)))


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=5), st.data())
def test_angles_are_unit_vectors_and_equal_values_are_fully_alike(row: list[float], data: st.DataObject) -> None:
    known = np.array([value if data.draw(st.booleans()) else np.nan for value in row])
    block = angles(np.array([known]))
    assert float(np.linalg.norm(block)) == pytest.approx(1.0)


def test_similarity_of_values_falls_with_their_distance() -> None:
    block = angles(np.array([[-50.0], [-1.0], [0.0], [1.0], [50.0]]))
    near = block @ block.T
    assert near[0, -1] == pytest.approx(-1)
    assert (np.diff(near[0]) < 0).all()


def test_standardised_in_any_batches_as_in_one() -> None:
    values = np.random.default_rng(3).normal(5, 2, size=(90, 2))
    values[4, 0] = values[:30, 1] = np.nan
    whole, parts = Standardiser(), Standardiser()
    expected = whole(values)
    for start in range(0, 90, 7):
        last = parts(values[start : start + 7])
    np.testing.assert_allclose(last, expected[84:], rtol=1e-10)
    np.testing.assert_allclose(np.nanmean(expected, 0), 0, atol=1e-12)
    np.testing.assert_allclose(np.nanstd(expected, 0), 1)
    again = Standardiser()
    again.load_state(parts.state())
    np.testing.assert_array_equal(again(values[:5]), parts(values[:5]))


def test_a_column_that_never_varies_is_neutral() -> None:
    assert Standardiser()(np.full((4, 1), 7.0)).tolist() == [[0.0]] * 4
