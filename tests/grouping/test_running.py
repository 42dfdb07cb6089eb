from __future__ import annotations

from math import inf, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupwise.grouping.running import RunningMean


def of(values: list[float], decay: float = 1.0) -> RunningMean:
    mean = RunningMean(decay)
    for value in values:
        mean.add(value)
    return mean


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=30))
def test_without_forgetting_it_is_the_mean_and_its_standard_error(values: list[float]) -> None:
    mean = of(values)
    assert mean.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert mean.standard_error == pytest.approx(np.std(values, ddof=1) / sqrt(len(values)), rel=1e-6, abs=1e-6)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=30), st.floats(0.5, 0.99))
def test_forgetting_weights_the_past_down(values: list[float], decay: float) -> None:
    weights = decay ** np.arange(len(values))[::-1]
    mean = np.average(values, weights=weights)
    variance = np.average((np.array(values) - mean) ** 2, weights=weights)
    effective = weights.sum() ** 2 / (weights**2).sum()
    found = of(values, decay)
    assert found.mean == pytest.approx(mean, abs=1e-9)
    assert found.standard_error == pytest.approx(sqrt(variance / (effective - 1)), rel=1e-6, abs=1e-6)


def test_too_little_says_nothing() -> None:
    assert RunningMean().z == of([3.0]).z == of([0.0, 0.0, 0.0]).z == 0
    assert of([1.0]).standard_error == inf
    assert of([2.0, 2.0]).z == inf
    assert of([-2.0, -2.0]).z == -inf


def test_resume_is_exact() -> None:
    live, copy = of([1.0, 5.0, 2.0], 0.9), RunningMean(0.9)
    copy.load_state(live.state())
    live.add(7.0)
    copy.add(7.0)
    assert live.state() == copy.state()
