"""Transfer above a threshold of similarity."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from groupwise.advantage import rloo_advantages, threshold_advantages

LEVELS = np.array([[0, 0], [0, 1], [1, 2], [2, 3], [2, 3]])  # groups 0, 1 and 2
REWARDS = np.array([1.0, 0.0, 0.5, 1.0, 1.0])


def at(*angles: float) -> Any:
    """Features in the plane, one direction (degrees) for each of groups 0, 1 and 2."""
    radians = np.radians(np.array(angles))[LEVELS[:, 0]]
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def test_groups_that_are_not_similar_keep_to_themselves() -> None:
    result = threshold_advantages(REWARDS, LEVELS, at(0, 90, 180))
    np.testing.assert_allclose(result, rloo_advantages(REWARDS, LEVELS[:, :1]))


def test_pinned() -> None:
    # cos 45 = .707 and cos 50 = .643 are more than .6, cos 95 is not
    w, u = 0.3 * np.cos(np.radians(45)), 0.3 * np.cos(np.radians(50))
    result = threshold_advantages(REWARDS, LEVELS, at(0, 45, 95))
    np.testing.assert_allclose(result[0], 1 - (0 + w * 0.5) / (1 + w))
    np.testing.assert_allclose(result[2], 0.5 - (w * 0.5 + u * 1) / (w + u))  # alone in its group
    np.testing.assert_allclose(result[3], 1 - (1 + u * 0.5) / (1 + u))


def test_the_threshold_itself_is_not_above_it() -> None:
    features = np.array([[1, 0], [1, 0], [0.6, 0.8], [-1, 0], [-1, 0]])
    assert threshold_advantages([1, 0, 1, 1, 1], LEVELS, features)[2] == 0  # alone: group 0's mean is .5


def test_only_directions_count_and_a_group_is_in_the_middle_of_its_prompts() -> None:
    features = at(0, 45, 95)
    expected = threshold_advantages(REWARDS, LEVELS, features)
    np.testing.assert_allclose(threshold_advantages(REWARDS, LEVELS, 9 * features), expected)
    features[:2] += [[0.0, 0.5], [0.0, -0.5]]
    np.testing.assert_allclose(threshold_advantages(REWARDS, LEVELS, features), expected)


def test_one_group_without_a_place() -> None:
    assert threshold_advantages([1, 0], [[0], [0]], np.zeros((2, 3))).tolist() == [1, -1]


@pytest.mark.parametrize("features", [np.zeros((4, 2)), np.zeros(5), np.full((5, 2), np.nan)])
def test_bad_features(features: Any) -> None:
    with pytest.raises(ValueError, match=r"features is .*N = 5"):
        threshold_advantages(REWARDS, LEVELS, features)
