"""SPO's advantages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from groupwise.advantage import spo_advantages


def test_mean_0_and_standard_deviation_1_in_any_unit() -> None:
    rng = np.random.default_rng(0)
    rewards, values, levels = rng.random(20), rng.random(20), np.arange(20)[:, None]
    result = spo_advantages(rewards, levels, values)
    assert abs(result.mean()) < 1e-12
    assert result.std(ddof=1) == pytest.approx(1)
    np.testing.assert_allclose(spo_advantages(7 * rewards - 2, levels, 7 * values - 2), result, atol=1e-6)


def test_pinned() -> None:
    # rewards less values: .75, -.25, -.5; their mean 0, their variance .4375
    result = spo_advantages([1, 0, 0], [[0], [1], [2]], [0.25, 0.25, 0.5])
    np.testing.assert_allclose(result, np.array([0.75, -0.25, -0.5]) / 0.4375**0.5, atol=1e-6)


def test_rewards_that_are_as_expected_teach_nothing() -> None:
    assert spo_advantages([1, 0, 1], [[0], [1], [0]], [1, 0, 1]).tolist() == [0, 0, 0]


@pytest.mark.parametrize("values", [[0.5], [0.5, np.nan], [[0.5, 0.5]]])
def test_bad_values(values: Any) -> None:
    with pytest.raises(ValueError, match=r"values is .*\[N\] = \[2\]"):
        spo_advantages([1.0, 0.0], [[0], [0]], values)
