"""Rates, pass@k, maj@k and their 95 % intervals, clustered by prompt. Pure functions of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import combinations
from math import comb, sqrt

import numpy as np

from groupwise.types import Floats, Ints

Z = 1.959964  # 97.5 % quantile of the normal distribution
SUBSETS = 1000  # of k among n completions: all of them up to this many, else this many drawn ones

Interval = tuple[float, float]


def pass_at_k(correct: int, samples: int, k: int) -> float:
    """Unbiased pass@k from `correct` of `samples` completions (Chen et al., arXiv 2107.03374, eq. 1)."""
    _check(k, samples)
    subsets = comb(samples, k)
    return (subsets - comb(samples - correct, k)) / subsets


def majority_at_k(answers: Sequence[str], scores: Floats, k: int) -> float:
    """maj@k of one prompt from n completions with `answers` [n], scored in [0, 1] by `scores` [n].

    The vote of k completions (self-consistency, Wang et al., arXiv 2203.11171) is for their most frequent answer, and
    is worth what the completions with that answer score on average; where answers tie, the mean over those that do.
    The result is the mean over the subsets of k completions, thus unbiased: over all subsets where there are at most
    SUBSETS, else over as many drawn ones, the same for every prompt. A vote of two is worth as much as one completion.

    >>> majority_at_k(["4", "4", "5"], np.array([1.0, 1.0, 0.0]), 3)
    1.0
    """
    _check(k, len(answers))
    names, codes = np.unique(np.asarray(answers, dtype=object), return_inverse=True)
    worth = np.bincount(codes, weights=scores) / np.bincount(codes)  # [A] of each answer
    drawn = _subsets(len(answers), k)  # [S, k]
    places = codes[drawn] + len(names) * np.arange(len(drawn))[:, None]
    votes = np.bincount(places.ravel(), minlength=len(drawn) * len(names)).reshape(len(drawn), len(names))
    winners = votes == votes.max(axis=1, keepdims=True)
    return float(((winners @ worth) / winners.sum(axis=1)).mean())


@cache
def _subsets(n: int, k: int) -> Ints:
    """[S, k] indices below n, different ones in each row."""
    if comb(n, k) <= SUBSETS:
        return np.array(list(combinations(range(n), k)))
    return np.argsort(np.random.default_rng(0).random((SUBSETS, n)), axis=1)[:, :k]


def _check(k: int, samples: int) -> None:
    if not 1 <= k <= samples:
        raise ValueError(f"k is {k}; with {samples} samples it must be between 1 and {samples}")


def standard_error(values: Floats) -> float:
    """Standard error of the mean of per-prompt values [P]."""
    return float(values.std(ddof=1) / sqrt(len(values))) if len(values) > 1 else 0.5


def rate_interval(values: Floats) -> Interval:
    """Wilson interval of the mean of per-prompt rates [P] in [0, 1].

    Several samples a prompt are not independent, so the sample size is the one at which a binomial proportion would
    have the spread between prompts that is seen; with one sample a prompt it is P. Where it is larger, a spread
    estimated from P prompts alone says so, and Student's quantile takes off what chance may have put on (Korn and
    Graubard, Survey Methodology 24, 1998).
    """
    mean, spread, prompts = float(values.mean()), standard_error(values), len(values)
    size = mean * (1 - mean) / spread**2 if spread > 0 and 0 < mean < 1 else float(prompts)
    if size > prompts:
        size = max(float(prompts), size * (Z / _student(prompts - 1)) ** 2)
    centre = (mean + Z**2 / (2 * size)) / (1 + Z**2 / size)
    half = Z / (1 + Z**2 / size) * sqrt(mean * (1 - mean) / size + Z**2 / (4 * size**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def _student(freedom: float) -> float:
    """97.5 % quantile of Student's t, to 1 % from 4 degrees of freedom on (Abramowitz and Stegun 26.7.5)."""
    terms = (Z**3 + Z) / 4, (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96, (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384
    return Z + sum(term / freedom**power for power, term in enumerate(terms, start=1))


def difference_interval(values: Floats) -> Interval:
    """Interval of the mean of paired differences [P] in [-1, 1], one a prompt.

    Normal, with two pseudo-pairs added, one without a difference and half a one in each direction (Agresti and Min,
    Statistics in Medicine 24, 2005): a few prompts that all agree are no proof. For hundreds of prompts they matter
    little; the interval's centre lies a trifle nearer to 0 than the mean.
    """
    size = len(values) + 2
    centre = float(values.sum()) / size
    half = Z * sqrt(((float((values**2).sum()) + 1) / size - centre**2) / size)
    return max(-1.0, centre - half), min(1.0, centre + half)


def mean_interval(means: Floats, intervals: Sequence[Interval]) -> Interval:
    """Interval of the equally weighted mean of independent `means` [K] that have `intervals` [K] of their own.

    The distances to the ends add up in squares (MOVER: Zou and Donner, Statistics in Medicine 27, 2008): with one mean
    it is that one's interval, and it never leaves the range of the K.
    """
    mean, below, above = float(means.mean()), *np.abs(np.array(intervals).T - means)
    size = len(means)
    return mean - sqrt(float((below**2).sum())) / size, mean + sqrt(float((above**2).sum())) / size
