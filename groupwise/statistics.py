"""Rates, pass@k and their 95 % intervals, clustered by prompt. Pure functions of arrays."""

from __future__ import annotations

from math import comb, sqrt

import numpy as np

from groupwise.types import Floats

Z = 1.959964  # 97.5 % quantile of the normal distribution

Interval = tuple[float, float]


def pass_at_k(correct: int, samples: int, k: int) -> float:
    """Unbiased pass@k from `correct` of `samples` completions (Chen et al., arXiv 2107.03374, eq. 1)."""
    if not 1 <= k <= samples:
        raise ValueError(f"k is {k}; with {samples} samples it must be between 1 and {samples}")
    return 1.0 - comb(samples - correct, k) / comb(samples, k)


def standard_error(values: Floats) -> float:
    """Standard error of the mean of per-prompt values [P]."""
    return float(values.std(ddof=1) / sqrt(len(values))) if len(values) > 1 else 0.5


def rate_interval(values: Floats) -> Interval:
    """Wilson interval of the mean of per-prompt rates [P] in [0, 1].

    Several samples a prompt are not independent, so the sample size is the one at which a binomial proportion would
    have the spread between prompts that is seen; with one sample a prompt it is P.
    """
    mean, spread, prompts = float(values.mean()), standard_error(values), len(values)
    size = mean * (1 - mean) / spread**2 if spread > 0 and 0 < mean < 1 else float(prompts)
    centre = (mean + Z**2 / (2 * size)) / (1 + Z**2 / size)
    half = Z / (1 + Z**2 / size) * sqrt(mean * (1 - mean) / size + Z**2 / (4 * size**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_interval(means: Floats, errors: Floats) -> Interval:
    """Normal interval of the equally weighted mean of independent `means` [K] with standard errors `errors` [K]."""
    half = Z * float(np.sqrt((errors**2).sum())) / len(means)
    return float(means.mean()) - half, float(means.mean()) + half
