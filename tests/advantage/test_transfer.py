"""The hierarchical baseline with a kernel between prompts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groupwise.advantage import hierarchical_advantages, kernel_advantages, kriging, rloo_advantages, similarity
from groupwise.types import Floats, Ints

from .dense import covariance, histories, trees

QUICK = settings(max_examples=100, deadline=None)
VARIANCES = [0.03, 0.0, 0.05, 0.02, 0.2]


def features_of(levels: Ints, width: int = 3) -> Floats:
    """[N, width] features that depend on the prompt alone."""
    return np.stack([np.random.default_rng(int(prompt) % 2**31).normal(size=width) for prompt in levels[:, -1]])


def dense(rewards: Floats, levels: Ints, variances: list[float], kernel_variance: float, past: Any) -> Floats:
    """A_i = [P r]_i / [P]_ii over rollouts, the kernel looked up for every pair of them."""
    r = np.concatenate([rewards, past[0] / past[1]])
    ids = np.concatenate([levels, past[2]])
    _, first, index = np.unique(ids[:, -1], return_index=True, return_inverse=True)
    k = covariance(ids, np.concatenate([np.ones(len(rewards)), past[1]]), variances)
    k += kernel_variance * similarity(features_of(ids)[first])[np.ix_(index, index)]
    inverse, one = np.linalg.inv(k), np.ones(len(r))
    p = inverse - np.outer(inverse @ one, inverse @ one) / (one @ inverse @ one)
    return np.asarray((p @ r)[: len(rewards)] / np.diag(p)[: len(rewards)])


@QUICK
@given(data=st.data(), levels=trees(), seed=st.integers(0, 1000), with_history=st.booleans())
def test_it_is_the_dense_form(data: st.DataObject, levels: Ints, seed: int, with_history: bool) -> None:
    rewards = np.random.default_rng(seed).normal(size=len(levels))
    variances = VARIANCES[-levels.shape[1] - 1 :]
    past = data.draw(histories(levels)) if with_history else (np.zeros(0), np.zeros(0), levels[:0])
    features = features_of(np.concatenate([levels, past[2]]))
    if len(features) == 1:
        return  # no other evidence
    result = kernel_advantages(rewards, levels, variances, 0.1, features, history=past if with_history else None)
    np.testing.assert_allclose(result, dense(rewards, levels, variances, 0.1, past), atol=1e-9)


@QUICK
@given(data=st.data(), levels=trees(), seed=st.integers(0, 1000))
def test_entries_that_count_nothing_say_nothing(data: st.DataObject, levels: Ints, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rewards, past = rng.normal(size=len(levels)), data.draw(histories(levels))
    variances, some = VARIANCES[-levels.shape[1] - 1 :], rng.random(len(past[0])) < 0.5
    emptied = past[0], np.where(some, past[1], 0.0), past[2]
    left = past[0][some], past[1][some], past[2][some]
    result, expected = (
        kernel_advantages(
            rewards, levels, variances, 0.1, features_of(np.concatenate([levels, given[2]])), history=given
        )
        for given in (emptied, left)
    )
    np.testing.assert_allclose(result, expected, atol=1e-12)


@pytest.mark.parametrize("exact", [True, False])
def test_the_diagonal_of_the_inverse(exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    _, levels, features = batch(60)
    path, places = levels[::2], features[::2]
    between, noise = np.array([0.05, 0.03, 0.1]), np.random.default_rng(0).random(60) + 0.1
    if not exact:
        monkeypatch.setattr(kriging, "MOST_EXACT", 59)
    matrix = np.diag(noise) + 0.3 * similarity(places)
    for ids, variance in zip(path.T, between, strict=True):
        matrix += variance * (ids[:, None] == ids)
    right = np.random.default_rng(1).normal(size=(60, 2))
    solved, diagonal = kriging.inverse(path, between, noise, 0.3, places, right)
    np.testing.assert_allclose(solved, np.linalg.solve(matrix, right), atol=1e-7)
    np.testing.assert_allclose(diagonal, np.diag(np.linalg.inv(matrix)), atol=1e-7)


@QUICK
@given(data=st.data(), levels=trees(), seed=st.integers(0, 1000))
def test_without_a_kernel_it_is_hierarchical(data: st.DataObject, levels: Ints, seed: int) -> None:
    rewards, past = np.random.default_rng(seed).normal(size=len(levels)), data.draw(histories(levels))
    variances, features = VARIANCES[-levels.shape[1] - 1 :], features_of(np.concatenate([levels, past[2]]))
    expected = hierarchical_advantages(rewards, levels, variances, history=past)
    for kernel_variance in (0.0, 1e-14):
        result = kernel_advantages(rewards, levels, variances, kernel_variance, features, history=past)
        np.testing.assert_allclose(result, expected, atol=1e-10)


def batch(prompts: int, seed: int = 0) -> tuple[Floats, Ints, Floats]:
    """rewards, levels and features of two rollouts a prompt; rates are smooth in the features."""
    rng = np.random.default_rng(seed)
    place, ids = rng.normal(size=(prompts, 3)), np.repeat(np.arange(prompts), 2)
    levels = np.stack([ids // 40, ids // 8, ids], axis=1)
    return np.sin(place[ids, 0]) + 0.4 * rng.normal(size=len(ids)), levels, place[ids]


def test_many_prompts_are_solved_by_landmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    rewards, levels, features = batch(400)
    exact = kernel_advantages(rewards, levels, [0.05, 0.05, 0.1, 0.2], 0.3, features)
    monkeypatch.setattr(kriging, "MOST_EXACT", 399)
    close = kernel_advantages(rewards, levels, [0.05, 0.05, 0.1, 0.2], 0.3, features)
    np.testing.assert_allclose(close, exact, atol=1e-6)
    monkeypatch.setattr(kriging, "LANDMARKS", 20)
    rough = kernel_advantages(rewards, levels, [0.05, 0.05, 0.1, 0.2], 0.3, features)
    assert 1e-6 < np.abs(rough - exact).mean() < 0.1
    assert np.square(rough).mean() < 1.1 * np.square(exact).mean()


def test_similar_prompts_predict_each_other() -> None:
    rewards, levels, features = batch(200)
    with_kernel = kernel_advantages(rewards, levels, [0.0, 0.0, 0.01, 0.16], 0.4, features)
    without = hierarchical_advantages(rewards, levels, [0.0, 0.0, 0.4, 0.16])
    assert np.square(with_kernel).mean() < 0.8 * np.square(without).mean()


def test_one_prompt_is_rloo_and_history_is_a_rollout_of_it() -> None:
    rewards, levels, features = np.array([1.0, 0, 0]), np.zeros((3, 1), dtype=np.int64), np.ones((3, 2))
    result = kernel_advantages(rewards, levels, [0.1, 0.2], 0.1, features)
    np.testing.assert_allclose(result, rloo_advantages(rewards, levels))
    past = [2.0], [2.0], [[0]]
    result = kernel_advantages(rewards, levels, [0.1, 0.2], 0.1, np.ones((4, 2)), history=past)
    np.testing.assert_allclose(result, [1 - 2 / 4, 0 - 3 / 4, 0 - 3 / 4])
    assert kernel_advantages([1.0], [[0]], [0.1, 0.2], 0.1, np.ones((1, 2))).tolist() == [0]


def test_features_that_are_all_alike_are_the_batchs_mean() -> None:
    rewards, levels, _ = batch(20)
    result = kernel_advantages(rewards, levels, [0.05, 0.05, 0.1, 0.2], 0.3, np.ones((40, 2)))
    np.testing.assert_allclose(result, hierarchical_advantages(rewards, levels, [0.05, 0.05, 0.1, 0.2]), atol=1e-9)


def test_without_noise() -> None:
    result = kernel_advantages([1.0, 1.0, 0.0], [[0], [0], [1]], [0.1, 0.0], 0.1, np.eye(3)[[0, 0, 1]])
    np.testing.assert_allclose(result, [0, 0, -1], atol=1e-6)


def test_similarity() -> None:
    # squared distances 1, 4 and 1 over nine pairs: mean 12/9
    near, far = np.exp(-2 / (12 / 9)), np.exp(-8 / (12 / 9))
    np.testing.assert_allclose(similarity([[0.0], [1.0], [2.0]]), [[1, near, far], [near, 1, near], [far, near, 1]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variances": [0.1, np.inf, 0.1, 0.1]}, "must be finite"),
        ({"variances": [0.1, 0.1]}, r"variances is \[2\]"),
        ({"kernel_variance": -1.0}, "kernel_variance -1.0 must be finite and at least 0"),
        ({"kernel_variance": np.nan}, "kernel_variance nan"),
        ({"features": np.zeros((7, 2))}, r"features is \[7, 2\].*N = 8 rollouts and M = 0"),
        ({"features": np.full((8, 2), np.nan)}, "must be finite"),
        ({"history": ([1.0], [1.0], [[0, 0, 0]])}, "M = 1"),
        ({"levels": np.array([[0, 0, 0], [1, 1, 0]] * 4)}, "not nested: id 0 of column 2 has two parents"),
    ],
)
def test_errors(change: dict[str, Any], message: str) -> None:
    rewards, levels, features = batch(4)
    given: dict[str, Any] = {"levels": levels, "variances": [0.1] * 4, "kernel_variance": 0.1, "features": features}
    with pytest.raises(ValueError, match=message):
        kernel_advantages(rewards, **given | change)
