"""What every estimator must do."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groupwise.advantage import ESTIMATORS, estimate, global_advantages, hierarchical_advantages, kernel_advantages
from groupwise.config.learning import SCALES, AdvantageConfig
from groupwise.types import Evidence

from .cases import Batch, batches, known, reordered

QUICK = settings(max_examples=30, deadline=None)
# those whose baseline never contains the rollout's own reward
UNBIASED = ("rloo", "global", "jspo", "threshold", "hierarchical", "kernel")
# those whose baseline is of this batch alone; others may find all rewards of a batch surprising
SURPRISED = {"ebpo", "spo"}
FACTORS = {"grpo": 1.0, "group_mean": 1.0} | dict.fromkeys(UNBIASED, 4 / 3)

every_kind = pytest.mark.parametrize("kind", ESTIMATORS)
every_choice = pytest.mark.parametrize(
    ("kind", "scale"), [(kind, scale) for kind, estimator in ESTIMATORS.items() for scale in estimator.scales]
)


@every_choice
@QUICK
@given(batch=batches(), seed=st.integers(0, 1000))
def test_permuting_rollouts_permutes_advantages(kind: str, scale: str, batch: Batch, seed: int) -> None:
    rewards, levels = batch
    facts, order = known(levels), np.random.default_rng(seed).permutation(len(rewards))
    permuted = estimate(kind, rewards[order], levels[order], scale, **reordered(facts, order))
    np.testing.assert_allclose(permuted, estimate(kind, rewards, levels, scale, **facts)[order], atol=1e-9)


@every_choice
@QUICK
@given(batch=batches(), constant=st.floats(-100, 100))
def test_adding_a_constant_changes_nothing(kind: str, scale: str, batch: Batch, constant: float) -> None:
    rewards, levels = batch
    shifted = estimate(kind, rewards + constant, levels, scale, **known(levels, shift=constant))
    atol = 1e-6 if kind == "spo" else 1e-8  # it divides by what little is left where rewards are as expected
    np.testing.assert_allclose(shifted, estimate(kind, rewards, levels, scale, **known(levels)), atol=atol)


@every_kind
@QUICK
@given(batch=batches(), factor=st.floats(0.1, 10))
def test_without_scaling_advantages_are_in_the_rewards_unit(kind: str, batch: Batch, factor: float) -> None:
    rewards, levels = batch
    scaled = estimate(kind, factor * rewards, levels, "none", **known(levels, factor=factor))
    expected = estimate(kind, rewards, levels, "none", **known(levels))
    if kind == "spo":  # it scales by itself
        np.testing.assert_allclose(scaled, expected, atol=1e-5)
    else:
        np.testing.assert_allclose(scaled, factor * expected, atol=1e-9)


@every_choice
@QUICK
@given(batch=batches())
def test_names_of_the_groups_do_not_matter(kind: str, scale: str, batch: Batch) -> None:
    rewards, levels = batch
    facts = known(levels)
    expected = estimate(kind, rewards, levels, scale, **facts)
    np.testing.assert_allclose(estimate(kind, rewards, 5 - 3 * levels, scale, **facts), expected, atol=1e-11)


@pytest.mark.parametrize("kind", UNBIASED)
@QUICK
@given(batch=batches(min_size=2), which=st.integers(0, 11), new=st.floats(-10, 10))
def test_the_baseline_does_not_contain_its_own_reward(kind: str, batch: Batch, which: int, new: float) -> None:
    rewards, levels = batch
    i = which % len(rewards)
    changed = rewards.copy()
    changed[i] = new
    before = estimate(kind, rewards, levels, "none", **known(levels))[i]
    after = estimate(kind, changed, levels, "none", **known(levels))[i]
    if before == after == 0:
        return  # no baseline: the advantage is 0 by definition
    np.testing.assert_allclose(new - after, rewards[i] - before, atol=1e-9)


@pytest.mark.parametrize("kind", sorted(set(ESTIMATORS) - set(UNBIASED)))
def test_the_baseline_of_the_others_contains_it(kind: str) -> None:
    levels = np.array([[0], [0], [1], [1]])
    first, second = (
        reward - estimate(kind, [reward, 0, 1, 0], levels, "none", **known(levels))[0] for reward in (0.0, 1.0)
    )
    assert abs(first - second) > 0.1


@every_choice
def test_equal_rewards_have_advantage_exactly_zero(kind: str, scale: str) -> None:
    if kind in SURPRISED:
        return
    # .1 is no binary fraction: three of them do not sum to three times one
    levels = np.array([[0], [1], [0], [2], [0], [1], [1]])
    assert (estimate(kind, [0.1] * 7, levels, scale, **known(levels)) == 0).all()


@every_choice
def test_one_rollout_has_advantage_zero(kind: str, scale: str) -> None:
    if kind != "ebpo":
        assert estimate(kind, [3.0], [[0]], scale, **known(np.array([[0]]))).tolist() == [0.0]


@pytest.mark.parametrize("kind", FACTORS)
def test_one_prompt(kind: str) -> None:
    levels = np.array([[5]] * 4)
    np.testing.assert_allclose(
        estimate(kind, [1, 0, 0, 1], levels, "none", **known(levels)),
        FACTORS[kind] * np.array([0.5, -0.5, -0.5, 0.5]),
    )


@every_choice
def test_input_is_not_changed_and_output_is_float64(kind: str, scale: str) -> None:
    rewards, levels = np.array([1.0, 0.0, 1.0], dtype=np.float32), np.array([[0], [0], [1]], dtype=np.int32)
    facts = known(levels)
    result = estimate(kind, rewards, levels, scale, **facts)
    assert result.dtype == np.float64
    assert result.shape == (3,)
    assert rewards.tolist() == [1, 0, 1]
    assert facts["values"].tolist() == known(levels)["values"].tolist()


def test_default_scales() -> None:
    assert {kind: estimator.scale for kind, estimator in ESTIMATORS.items()} == {
        "grpo": "group",
        "rloo": "none",
        "global": "none",
        "jspo": "none",
        "ebpo": "none",
        "spo": "none",
        "group_mean": "group",
        "threshold": "none",
        "hierarchical": "running",
        "kernel": "running",
    }
    rewards, levels = [1.0, 0.0, 0.0], np.array([[0], [0], [0]])
    for kind, estimator in ESTIMATORS.items():
        expected = estimate(kind, rewards, levels, estimator.scale, **known(levels))
        assert (estimate(kind, rewards, levels, **known(levels)) == expected).all()


def test_the_tree_uses_its_evidence_once_there_is_enough() -> None:
    rewards, levels = np.array([1.0, 0.0, 1.0, 0.0, 0.5]), np.array([[0, 0], [0, 0], [0, 1], [1, 2], [1, 2]])
    facts = known(levels)
    variances, features = facts["evidence"].variances, np.concatenate([facts["features"], facts["features"][:1]])
    history = np.array([1.5]), np.array([2.0]), levels[:1]
    facts |= {"features": features, "evidence": Evidence(variances=variances, history=history, ready=True, scale=0.5)}
    tree = hierarchical_advantages(rewards, levels, variances, history=history)
    kernel = kernel_advantages(rewards, levels, variances, 0.03, features, history=history)
    assert np.abs(tree - kernel).max() > 0.01
    np.testing.assert_allclose(estimate("hierarchical", rewards, levels, **facts), tree / 0.5)
    np.testing.assert_allclose(estimate("kernel", rewards, levels, **facts), kernel / 0.5)
    np.testing.assert_allclose(estimate("kernel", rewards, levels, **facts | {"kernel_variance": 0.0}), tree / 0.5)
    facts["evidence"] = Evidence(variances=variances, history=history)
    for kind in ("hierarchical", "kernel"):
        np.testing.assert_allclose(estimate(kind, rewards, levels, **facts), global_advantages(rewards, levels))


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
        ([1.0, 0.0], [[0, 7], [1, 7]], "levels is not nested: id 7 of column 1 has two parents in column 0, 0 and 1"),
    ],
)
@every_kind
def test_errors_name_what_is_wrong(kind: str, rewards: Any, levels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        estimate(kind, rewards, levels, **known(np.array([[0], [0]])))


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match="unknown advantage 'gae'; allowed: grpo, rloo, global"):
        estimate("gae", [1.0], [[0]])
    with pytest.raises(ValueError, match="scale 'prompt' does not fit advantage 'grpo'; allowed: none, group, batch"):
        estimate("grpo", [1.0], [[0]], "prompt")
    with pytest.raises(ValueError, match="scale 'group' does not fit advantage 'global'; allowed: none, batch"):
        estimate("global", [1.0], [[0]], "group")
    with pytest.raises(ValueError, match="advantage 'kernel' needs evidence, kernel_variance, features"):
        estimate("kernel", [1.0], [[0]], evidence=None)


def test_a_recipe_allows_the_scales_that_the_estimator_has() -> None:
    for kind in get_args(AdvantageConfig.model_fields["kind"].annotation):
        assert set(SCALES.get(kind, ("none", "group", "batch"))) == set(ESTIMATORS[kind].scales), kind
