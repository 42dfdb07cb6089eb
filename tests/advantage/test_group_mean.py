"""The founding articles' advantages."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings

from groupwise.advantage import estimate, group_mean_advantages, grpo_advantages

from .cases import Batch, batches


@settings(max_examples=30, deadline=None)
@given(batch=batches())
def test_it_is_grpo_with_the_level_above_for_the_prompt(batch: Batch) -> None:
    rewards, levels = batch
    expected = grpo_advantages(rewards, levels[:, :1])
    assert (group_mean_advantages(rewards, levels) == expected).all()
    assert (estimate("group_mean", rewards, levels) == estimate("grpo", rewards, levels[:, :1])).all()
    assert (group_mean_advantages(rewards, levels[:, 1:]) == grpo_advantages(rewards, levels)).all()


def test_pinned() -> None:
    # domain 0; clusters 5 (two prompts) and 6
    result = group_mean_advantages([1, 0, 0, 1], [[0, 5, 0], [0, 5, 1], [0, 5, 1], [0, 6, 2]])
    np.testing.assert_allclose(result, [2 / 3, -1 / 3, -1 / 3, 0])
