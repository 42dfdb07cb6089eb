"""What every estimator must do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groupwise.advantage import ESTIMATORS, estimate

from .cases import Batch, batches

QUICK = settings(max_examples=30, deadline=None)
every_kind = pytest.mark.parametrize("kind", ESTIMATORS)
every_choice = pytest.mark.parametrize(
    ("kind", "scale"), [(kind, scale) for kind, estimator in ESTIMATORS.items() for scale in estimator.scales]
)


@every_choice
@QUICK
@given(batch=batches(), seed=st.integers(0, 1000))
def test_permuting_rollouts_permutes_advantages(kind: str, scale: str, batch: Batch, seed: int) -> None:
    rewards, levels = batch
    order = np.random.default_rng(seed).permutation(len(rewards))
    permuted = estimate(kind, rewards[order], levels[order], scale)
    np.testing.assert_allclose(permuted, estimate(kind, rewards, levels, scale)[order], atol=1e-9)


@every_choice
@QUICK
@given(batch=batches(), constant=st.floats(-100, 100))
def test_adding_a_constant_changes_nothing(kind: str, scale: str, batch: Batch, constant: float) -> None:
    rewards, levels = batch
    shifted = estimate(kind, rewards + constant, levels, scale)
    np.testing.assert_allclose(shifted, estimate(kind, rewards, levels, scale), atol=1e-8)


@every_kind
@QUICK
@given(batch=batches(), factor=st.floats(0.1, 10))
def test_without_scaling_advantages_are_linear_in_the_rewards(kind: str, batch: Batch, factor: float) -> None:
    rewards, levels = batch
    scaled = estimate(kind, factor * rewards, levels, "none")
    np.testing.assert_allclose(scaled, factor * estimate(kind, rewards, levels, "none"), atol=1e-9)


@every_choice
@QUICK
@given(batch=batches())
def test_names_of_the_groups_do_not_matter(kind: str, scale: str, batch: Batch) -> None:
    rewards, levels = batch
    expected = estimate(kind, rewards, levels, scale)
    assert (estimate(kind, rewards, 5 - 3 * levels[:, -1:], scale) == expected).all()


@every_choice
def test_equal_rewards_have_advantage_exactly_zero(kind: str, scale: str) -> None:
    # .1 is no binary fraction: three of them do not sum to three times one
    result = estimate(kind, [0.1] * 7, [[0], [1], [0], [2], [0], [1], [1]], scale)
    assert (result == 0).all()


@every_choice
def test_one_rollout_has_advantage_zero(kind: str, scale: str) -> None:
    assert estimate(kind, [3.0], [[0]], scale).tolist() == [0.0]


@every_kind
def test_one_prompt(kind: str) -> None:
    factor = {"grpo": 1.0, "rloo": 4 / 3, "global": 4 / 3}[kind]
    np.testing.assert_allclose(
        estimate(kind, [1, 0, 0, 1], [[5]] * 4, "none"), factor * np.array([0.5, -0.5, -0.5, 0.5])
    )


@every_choice
def test_input_is_not_changed_and_output_is_float64(kind: str, scale: str) -> None:
    rewards, levels = np.array([1.0, 0.0, 1.0], dtype=np.float32), np.array([[0], [0], [1]], dtype=np.int32)
    result = estimate(kind, rewards, levels, scale)
    assert result.dtype == np.float64
    assert result.shape == (3,)
    assert rewards.tolist() == [1, 0, 1]


def test_default_scales() -> None:
    assert {kind: estimator.scale for kind, estimator in ESTIMATORS.items()} == {
        "grpo": "group",
        "rloo": "none",
        "global": "none",
    }
    rewards, levels = [1.0, 0.0, 0.0], [[0], [0], [0]]
    for kind, estimator in ESTIMATORS.items():
        assert (estimate(kind, rewards, levels) == estimate(kind, rewards, levels, estimator.scale)).all()


@pytest.mark.parametrize(
    ("rewards", "levels", "message"),
    [
        ([], np.zeros((0, 1), dtype=int), r"rewards is \[0\]"),
        ([[1.0]], [[0]], r"rewards is \[1, 1\]"),
        ([1.0, np.nan, 0.0], [[0]] * 3, "reward nan of rollout 1 is not finite"),
        ([1.0, np.inf], [[0]] * 2, "reward inf of rollout 1"),
        ([1.0, None], [[0]] * 2, "rollout 1 is not finite"),
        ([1.0, 0.0], [[0]], r"levels is \[1, 1\].*N = 2"),
        ([1.0, 0.0], [0, 0], r"levels is \[2\]"),
        ([1.0, 0.0], np.zeros((2, 0), dtype=int), r"levels is \[2, 0\]"),
        ([1.0, 0.0], [[0.0], [1.0]], "levels is float64"),
    ],
)
@every_kind
def test_errors_name_what_is_wrong(kind: str, rewards: Any, levels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        estimate(kind, rewards, levels)


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match="unknown advantage 'gae'; allowed: grpo, rloo, global"):
        estimate("gae", [1.0], [[0]])
    with pytest.raises(ValueError, match="scale 'prompt' does not fit advantage 'grpo'; allowed: none, group, batch"):
        estimate("grpo", [1.0], [[0]], "prompt")
    with pytest.raises(ValueError, match="scale 'group' does not fit advantage 'global'; allowed: none, batch"):
        estimate("global", [1.0], [[0]], "group")
