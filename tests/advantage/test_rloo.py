"""RLOO's advantages."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from groupwise.advantage import rloo_advantages

from .cases import Batch, batches

QUICK = settings(max_examples=30, deadline=None)


@QUICK
@given(batch=batches())
def test_it_is_the_reward_minus_the_mean_of_the_others_of_the_prompt(batch: Batch) -> None:
    rewards, levels = batch
    prompt = levels[:, -1]
    for i, advantage in enumerate(rloo_advantages(rewards, levels)):
        others = [rewards[j] for j in range(len(rewards)) if j != i and prompt[j] == prompt[i]]
        np.testing.assert_allclose(advantage, rewards[i] - np.mean(others) if others else 0.0, atol=1e-12)


@QUICK
@given(batch=batches(), which=st.integers(0, 11), new=st.floats(-10, 10))
def test_the_baseline_does_not_contain_its_own_reward(batch: Batch, which: int, new: float) -> None:
    rewards, levels = batch
    i = which % len(rewards)
    if (levels[:, -1] == levels[i, -1]).sum() == 1:
        return  # no baseline: the advantage is 0 by definition
    changed = rewards.copy()
    changed[i] = new
    before, after = rewards - rloo_advantages(rewards, levels), changed - rloo_advantages(changed, levels)
    np.testing.assert_allclose(after[i], before[i], atol=1e-12)


def test_pinned_on_unequal_groups() -> None:
    result = rloo_advantages([1, 0, 0.5, 0, 1, 0], [[0, 7], [0, 7], [0, 2], [0, 7], [1, 9], [0, 2]])
    np.testing.assert_allclose(result, [1, -0.5, 0.5, -0.5, 0, -0.5], atol=1e-15)
