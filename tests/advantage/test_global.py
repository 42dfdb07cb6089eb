"""The global leave-one-out advantages."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from groupwise.advantage import global_advantages, rloo_advantages

from .cases import Batch, batches

QUICK = settings(max_examples=30, deadline=None)


@QUICK
@given(batch=batches())
def test_it_is_rloo_with_one_prompt_for_all_and_sums_to_zero(batch: Batch) -> None:
    rewards, levels = batch
    result = global_advantages(rewards, levels)
    assert (result == rloo_advantages(rewards, np.zeros_like(levels))).all()
    assert abs(result.sum()) < 1e-12


@QUICK
@given(batch=batches(min_size=2), which=st.integers(0, 11), new=st.floats(-10, 10))
def test_the_baseline_does_not_contain_its_own_reward(batch: Batch, which: int, new: float) -> None:
    rewards, levels = batch
    i = which % len(rewards)
    changed = rewards.copy()
    changed[i] = new
    before, after = rewards - global_advantages(rewards, levels), changed - global_advantages(changed, levels)
    np.testing.assert_allclose(after[i], before[i], atol=1e-12)


def test_pinned_with_one_rollout_a_prompt() -> None:
    np.testing.assert_allclose(global_advantages([1, 0, 0, 0], [[0], [1], [2], [3]]), [1, -1 / 3, -1 / 3, -1 / 3])
