"""Process supervision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from groupwise.advantage import estimate, process_advantages


def test_one_step_a_rollout_is_grpo() -> None:
    rewards, levels = np.random.default_rng(0).random(12), np.repeat([4, 2, 9], 4)[:, None]
    result = process_advantages([[r] for r in rewards], levels)
    np.testing.assert_allclose(np.concatenate(result), estimate("grpo", rewards, levels), atol=1e-12)


def test_pinned() -> None:
    # prompt 0: steps 1, 1, 0, 0 of two rollouts, mean .5, std sqrt(1/3); prompt 1 has three equal steps
    unit = 0.5 / (3**-0.5 + 1e-4)
    result = process_advantages([[1, 1, 0], [0.1, 0.1, 0.1], [0], []], [[0], [1], [0], [0]])
    np.testing.assert_allclose(result[0], [unit, 0, -unit], atol=1e-12)
    assert result[1].tolist() == [0, 0, 0]
    np.testing.assert_allclose(result[2], [-unit])
    assert result[3].shape == (0,)


def test_rollouts_can_be_permuted_and_shifted() -> None:
    rng = np.random.default_rng(1)
    steps, levels = [rng.random(n) for n in (3, 1, 0, 4, 2)], np.array([[0], [1], [0], [1], [0]])
    result = process_advantages(steps, levels)
    order = [3, 0, 4, 2, 1]
    again = process_advantages([steps[i] + 5 for i in order], levels[order])
    for i, advantages in zip(order, again, strict=True):
        np.testing.assert_allclose(advantages, result[i], atol=1e-9)


@pytest.mark.parametrize(
    ("steps", "levels", "message"),
    [
        ([[1.0]], [[0], [0]], r"levels is \[2, 1\].*N = 1"),
        ([[1.0]], [0], r"levels is \[1\]"),
        ([[], []], [[0], [0]], r"rewards is \[0\]"),
        ([[1.0], [np.nan]], [[0], [0]], "is not finite"),
    ],
)
def test_errors(steps: Any, levels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        process_advantages(steps, levels)
