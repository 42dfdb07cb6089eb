"""GRPO's advantages."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings

from groupwise.advantage import grpo_advantages, rloo_advantages

from .cases import Batch, batches


@settings(max_examples=30, deadline=None)
@given(batch=batches())
def test_each_group_sums_to_zero_and_is_a_fraction_of_rloo(batch: Batch) -> None:
    rewards, levels = batch
    result = grpo_advantages(rewards, levels)
    for prompt in np.unique(levels[:, -1]):
        member = levels[:, -1] == prompt
        assert abs(result[member].sum()) < 1e-12
        size = member.sum()
        np.testing.assert_allclose(
            result[member], (size - 1) / size * rloo_advantages(rewards, levels)[member], atol=1e-12
        )


def test_pinned_on_unequal_groups() -> None:
    # prompt 7: mean 1/3; prompt 2: mean .5; prompt 9 has one rollout
    result = grpo_advantages([1, 0, 0.5, 0, 1, 0], [[0, 7], [0, 7], [0, 2], [0, 7], [1, 9], [0, 2]])
    np.testing.assert_allclose(result, [2 / 3, -1 / 3, 0.25, -1 / 3, 0, -0.25], atol=1e-15)
