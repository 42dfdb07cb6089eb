"""Rates and intervals: known special cases, brute force, and coverage by simulation."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from math import comb, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from groupwise.statistics import (
    SUBSETS,
    Z,
    _student,
    difference_interval,
    majority_at_k,
    mean_interval,
    pass_at_k,
    rate_interval,
    standard_error,
)

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


def vote(answers: list[str], scores: list[float]) -> float:
    """What the vote of all is worth, by the book."""
    most = max(Counter(answers).values())
    winners = [answer for answer, count in Counter(answers).items() if count == most]
    worth = [np.mean([s for a, s in zip(answers, scores, strict=True) if a == winner]) for winner in winners]
    return float(np.mean(worth))


ballots = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([0.0, 1.0])), min_size=1, max_size=7)


@given(ballots)
def test_a_majority_is_the_mean_over_all_subsets(ballot: list[tuple[str, float]]) -> None:
    """With scores that the answer alone decides; where one answer is scored in two ways, see below."""
    answers = [answer for answer, _ in ballot]
    scores = np.array([float(answer == "a") for answer in answers])
    for k in range(1, len(ballot) + 1):
        subsets = combinations(range(len(ballot)), k)
        expected = np.mean([vote([answers[i] for i in s], [scores[i] for i in s]) for s in subsets])
        assert majority_at_k(answers, scores, k) == pytest.approx(expected)


@given(ballots)
def test_a_vote_of_two_is_worth_one_completion_and_order_does_not_matter(ballot: list[tuple[str, float]]) -> None:
    answers, scores = [answer for answer, _ in ballot], np.array([score for _, score in ballot])
    n = len(ballot)
    assert majority_at_k(answers, scores, 1) == pytest.approx(scores.mean())
    if n > 1 and all(len({s for a, s in ballot if a == answer}) == 1 for answer in answers):
        assert majority_at_k(answers, scores, 2) == pytest.approx(scores.mean())
    assert majority_at_k(answers, scores, n) == pytest.approx(vote(answers, list(scores)))
    assert majority_at_k(answers[::-1], scores[::-1], (n + 1) // 2) == pytest.approx(
        majority_at_k(answers, scores, (n + 1) // 2)
    )


def test_majority_special_cases() -> None:
    assert majority_at_k(["a", "a", "b"], np.array([1.0, 1.0, 0.0]), 3) == 1
    assert majority_at_k(["a", "b", "b"], np.array([1.0, 0.0, 0.0]), 3) == 0
    assert majority_at_k(["a", "b"], np.array([1.0, 0.0]), 2) == 0.5  # a tie
    assert majority_at_k(["a", "a", "b"], np.array([1.0, 0.0, 0.0]), 3) == 0.5  # the scorer disagrees with itself
    with pytest.raises(ValueError, match="k is 3; with 2 samples it must be between 1 and 2"):
        majority_at_k(["a", "b"], np.zeros(2), 3)


def test_many_subsets_are_sampled_and_always_the_same() -> None:
    """Two answers of which one is right in 12 of 20: the vote of 7 is hypergeometric."""
    answers, scores = ["a"] * 12 + ["b"] * 8, np.array([1.0] * 12 + [0.0] * 8)
    assert comb(20, 7) > SUBSETS
    exact = sum(comb(12, i) * comb(8, 7 - i) for i in range(4, 8)) / comb(20, 7)
    found = majority_at_k(answers, scores, 7)
    assert found == majority_at_k(answers, scores, 7)
    assert found == pytest.approx(exact, abs=4 * sqrt(exact * (1 - exact) / SUBSETS))


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


@pytest.mark.parametrize("prompts", [3, 5, 10])
@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (2, 2), (20, 20)])
def test_coverage_of_few_prompts_with_many_samples(prompts: int, a: float, b: float) -> None:
    """Few prompts may be alike by chance: that is no proof that they all are."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(1000):
        low, high = rate_interval(rng.binomial(16, rng.beta(a, b, prompts)) / 16)
        held += low <= a / (a + b) <= high
    assert held / 1000 > 0.93


@pytest.mark.parametrize("freedom", [4, 9, 29, 1000])
def test_student_s_quantile(freedom: int) -> None:
    assert _student(freedom) == pytest.approx(student.ppf(0.975, freedom), rel=0.01)


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
    assert mean_interval(np.array([0.3]), [(0.1, 0.4)]) == pytest.approx((0.1, 0.4))
    # four tasks with intervals of the same width: half of it
    low, high = mean_interval(np.array([0.2, 0.4, 0.2, 0.4]), [(0.1, 0.3), (0.3, 0.5)] * 2)
    assert (low, high) == pytest.approx((0.25, 0.35))
    # nobody was ever right, yet the mean may be above 0
    low, high = mean_interval(np.zeros(2), [(0.0, 0.1)] * 2)
    assert (low, high) == pytest.approx((0.0, 0.1 / sqrt(2)))


@given(st.lists(rates, min_size=1, max_size=6))
def test_the_interval_of_a_mean_of_rates_stays_in_its_range(tasks: list[np.ndarray]) -> None:
    means, intervals = np.array([t.mean() for t in tasks]), [rate_interval(t) for t in tasks]
    low, high = mean_interval(means, intervals)
    assert -1e-12 <= low <= means.mean() + 1e-12
    assert means.mean() - 1e-12 <= high <= 1 + 1e-12


differences = st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), min_size=1, max_size=50).map(np.array)


@given(differences)
def test_an_interval_of_differences_is_mirrored_with_them(values: np.ndarray) -> None:
    low, high = difference_interval(values)
    assert -1 <= low <= values.mean() <= high <= 1
    assert difference_interval(-values) == pytest.approx((-high, -low))


@pytest.mark.parametrize("prompts", [1, 2])
def test_one_or_two_prompts_prove_nothing(prompts: int) -> None:
    low, _ = difference_interval(np.ones(prompts))
    assert low < 0


def test_many_prompts_are_as_good_as_normal() -> None:
    values = np.random.default_rng(0).choice([-1.0, 0.0, 0.0, 1.0, 1.0], 2000)
    half = Z * values.std() / sqrt(2000)
    assert difference_interval(values) == pytest.approx((values.mean() - half, values.mean() + half), abs=1e-3)


@pytest.mark.parametrize(("prompts", "samples"), [(10, 1), (60, 1), (300, 1), (60, 8)])
def test_coverage_of_differences(prompts: int, samples: int) -> None:
    """Before and after on the same prompts of unequal difficulty; the intervals may be too wide, not too narrow."""
    rng, held = np.random.default_rng(0), 0
    gain = 0.1
    for _ in range(1000):
        difficulty = rng.beta(0.6, 0.9, prompts) * (1 - gain)
        old, new = (rng.binomial(samples, p) / samples for p in (difficulty, difficulty + gain))
        low, high = difference_interval(new - old)
        held += low <= gain <= high
    assert held / 1000 > 0.935
