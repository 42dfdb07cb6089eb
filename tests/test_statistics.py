"""Rates and intervals: known special cases, brute force, and coverage by simulation."""

from __future__ import annotations

from itertools import combinations
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupwise.statistics import Z, mean_interval, pass_at_k, rate_interval, standard_error

rates = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=2, max_size=50).map(np.array)


@pytest.mark.parametrize("samples", range(1, 7))
def test_pass_at_k_counts_the_subsets_with_a_right_one(samples: int) -> None:
    for correct in range(samples + 1):
        outcomes = [True] * correct + [False] * (samples - correct)
        for k in range(1, samples + 1):
            subsets = list(combinations(outcomes, k))
            assert pass_at_k(correct, samples, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_pass_at_k_special_cases() -> None:
    assert pass_at_k(3, 8, 1) == 3 / 8
    assert pass_at_k(0, 8, 8) == 0
    assert pass_at_k(1, 8, 8) == 1
    assert pass_at_k(1, 256, 128) == 0.5


@pytest.mark.parametrize("k", [0, 9])
def test_an_impossible_k_is_named(k: int) -> None:
    with pytest.raises(ValueError, match=f"k is {k}; with 8 samples it must be between 1 and 8"):
        pass_at_k(1, 8, k)


def wilson(rate: float, size: int) -> tuple[float, float]:
    """Wilson's interval (1927): all p with |rate - p| <= Z sqrt(p (1 - p) / size), by bisection."""

    def edge(outside: float) -> float:
        inside = rate
        for _ in range(100):
            p = (inside + outside) / 2
            inside, outside = (p, outside) if abs(rate - p) <= Z * sqrt(p * (1 - p) / size) else (inside, p)
        return inside

    return edge(0.0), edge(1.0)


@pytest.mark.parametrize(("correct", "prompts"), [(0, 10), (10, 10), (1, 300), (150, 300), (3, 8), (1, 2)])
def test_one_sample_a_prompt_is_wilson_s_interval(correct: int, prompts: int) -> None:
    values = np.array([1.0] * correct + [0.0] * (prompts - correct))
    # the spread between prompts is estimated with P - 1, so the size it stands for is P - 1 where there is one
    size = prompts if correct in (0, prompts) else prompts - 1
    assert rate_interval(values) == pytest.approx(wilson(correct / prompts, size), abs=1e-9)


def test_all_wrong_does_not_mean_never() -> None:
    low, high = rate_interval(np.zeros(10))
    assert low == 0
    assert high == pytest.approx(Z**2 / (10 + Z**2))  # .2775


@given(rates)
def test_an_interval_holds_its_mean_and_stays_in_its_range(values: np.ndarray) -> None:
    low, high = rate_interval(values)
    assert 0 <= low <= values.mean() + 1e-12
    assert values.mean() - 1e-12 <= high <= 1


@given(rates)
def test_wrong_is_right_mirrored(values: np.ndarray) -> None:
    low, high = rate_interval(values)
    assert rate_interval(1 - values) == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_repeating_a_sample_adds_no_evidence() -> None:
    """Eight samples of a prompt that always agree are worth one: the interval is that of the prompts."""
    once = np.array([0.0, 1.0] * 20)
    eight = np.array([np.mean([x] * 8) for x in once])
    assert rate_interval(eight) == rate_interval(once)


def test_independent_samples_add_evidence() -> None:
    draws = np.random.default_rng(0).random((200, 8)) < 0.3
    low, high = rate_interval(draws.mean(axis=1))
    assert (high - low) < 0.5 * np.subtract(*reversed(rate_interval(draws[:, 0].astype(float))))


@pytest.mark.parametrize(("samples", "concentration"), [(1, None), (8, None), (8, 1.0)])
def test_coverage(samples: int, concentration: float | None) -> None:
    """95 % of intervals hold the true rate, with prompts of equal and of unequal difficulty."""
    rng, truth, prompts, held = np.random.default_rng(0), 0.2, 60, 0
    for _ in range(1000):
        if concentration is None:
            difficulty = np.full(prompts, truth)
        else:
            difficulty = rng.beta(concentration * truth, concentration * (1 - truth), prompts)
        low, high = rate_interval(rng.binomial(samples, difficulty) / samples)
        held += low <= truth <= high
    assert 0.93 < held / 1000 < 0.975


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_single_prompt(value: float) -> None:
    low, high = rate_interval(np.array([value]))
    assert 0 <= low <= value <= high <= 1
    assert high - low > 0.5


def test_standard_error() -> None:
    assert standard_error(np.array([0.0, 1.0])) == pytest.approx(0.5)
    assert standard_error(np.array([0.25, 0.25, 0.25])) == 0
    assert standard_error(np.array([1.0])) == 0.5  # the most it can be
    values = np.random.default_rng(0).random(100)
    assert standard_error(values) == pytest.approx(values.std(ddof=1) / 10)


def test_the_mean_of_tasks() -> None:
    assert mean_interval(np.array([0.3]), np.array([0.1])) == pytest.approx((0.3 - 0.1 * Z, 0.3 + 0.1 * Z))
    # four tasks with the same error: half the error
    low, high = mean_interval(np.array([0.2, 0.4, 0.2, 0.4]), np.full(4, 0.1))
    assert (low, high) == pytest.approx((0.3 - 0.05 * Z, 0.3 + 0.05 * Z))
