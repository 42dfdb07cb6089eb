"""The James-Stein baseline."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groupwise.advantage import global_advantages, jspo_advantages, rloo_advantages
from groupwise.types import Floats

QUICK = settings(max_examples=50, deadline=None)


def plain(rewards: Floats) -> Floats:
    """rewards [P, G] -> advantages [P, G], as the formula is written."""
    result = np.zeros_like(rewards)
    for j, own in enumerate(rewards):
        others = np.delete(rewards, j, axis=0)
        v = np.mean(others.var(1, ddof=1) / own.size)
        s = np.mean(np.square(others.mean(1) - others.mean()))
        shrink = v / (v + s) if v + s > 0 else 0.0
        for i, reward in enumerate(own):
            result[j, i] = reward - (1 - shrink) * np.delete(own, i).mean() - shrink * others.mean()
    return result


@QUICK
@given(prompts=st.integers(2, 6), size=st.integers(2, 5), seed=st.integers(0, 1000))
def test_it_is_the_papers_formula_where_groups_are_of_one_size(prompts: int, size: int, seed: int) -> None:
    rewards = np.random.default_rng(seed).integers(0, 3, (prompts, size)) / 2
    levels = np.repeat(np.arange(prompts), size)[:, None]
    np.testing.assert_allclose(jspo_advantages(rewards.ravel(), levels), plain(rewards).ravel(), atol=1e-12)


def test_others_that_do_not_vary_inside_leave_rloo() -> None:
    levels = [[0], [0], [1], [1], [2], [2]]
    rewards = [1, 0, 0.1, 0.1, 0.3, 0.3]  # seen from prompt 0, means are exact
    np.testing.assert_allclose(jspo_advantages(rewards, levels)[:2], rloo_advantages(rewards, levels)[:2])


def test_others_that_are_alike_take_their_mean() -> None:
    result = jspo_advantages([1, 1, 1, 0, 1, 0], [[0], [0], [1], [1], [2], [2]])
    np.testing.assert_allclose(result[:2], 0.5)  # not 0: the two others' means are both .5


def test_one_rollout_a_prompt_is_the_global_baseline() -> None:
    rewards, levels = [1.0, 0.0, 0.0, 0.5], [[0], [1], [2], [3]]
    np.testing.assert_allclose(jspo_advantages(rewards, levels), global_advantages(rewards, levels))


def test_pinned_on_unequal_groups() -> None:
    # prompt 0: seen from it, v = .5/2 = .25 (prompt 2 has one rollout), means .5 and 1: s = .0625, lambda = .8
    result = jspo_advantages([1, 0, 0, 1, 0, 1], [[0], [0], [0], [1], [1], [2]])
    np.testing.assert_allclose(result[:3], [1 - 0.6, 0 - 0.1 - 0.6, 0 - 0.1 - 0.6])
    # prompt 2 has no mean of its own: the mean of 1/3 and 1/2
    assert result[5] == pytest.approx(1 - 5 / 12)


def test_it_predicts_better_than_rloo_where_prompts_are_alike() -> None:
    rng = np.random.default_rng(0)
    rate = np.clip(0.5 + 0.1 * rng.normal(size=400), 0, 1)
    levels = np.repeat(np.arange(400), 2)
    rewards = (rng.random(800) < rate[levels]).astype(float)
    errors = [np.square(f(rewards, levels[:, None])).mean() for f in (jspo_advantages, rloo_advantages)]
    assert errors[0] < 0.75 * errors[1]
