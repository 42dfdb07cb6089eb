"""EBPO's advantages."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from groupwise.advantage import ebpo_advantages, grpo_advantages

from .cases import Batch, batches

QUICK = settings(max_examples=30, deadline=None)


@QUICK
@given(batch=batches())
def test_without_a_prior_or_without_noise_the_mean_is_not_shrunk(batch: Batch) -> None:
    rewards, levels = batch
    expected = grpo_advantages(rewards, levels)
    for prior in (None, (0.7, 0.1, 0.0), (0.7, 0.0, 0.0)):
        np.testing.assert_allclose(ebpo_advantages(rewards, levels, prior), expected, atol=1e-12)


@QUICK
@given(batch=batches())
def test_where_prompts_do_not_differ_the_baseline_is_the_global_mean(batch: Batch) -> None:
    rewards, levels = batch
    np.testing.assert_allclose(ebpo_advantages(rewards, levels, (0.3, 0.0, 0.2)), rewards - 0.3, atol=1e-12)


def test_pinned_on_unequal_groups() -> None:
    # sigma^2 = .2, tau^2 = .1: two rollouts shrink by .5, one by 2/3
    result = ebpo_advantages([1, 0, 1], [[0], [0], [1]], (0.2, 0.1, 0.2))
    np.testing.assert_allclose(result, [1 - 0.35, 0 - 0.35, 1 - (1 / 3 + 0.2 * 2 / 3)])


def test_a_group_that_fails_altogether_is_pushed_down() -> None:
    assert (ebpo_advantages([0, 0, 0, 0], [[0]] * 4, (0.4, 0.1, 0.2)) < 0).all()


@pytest.mark.parametrize("prior", [(np.nan, 0.1, 0.1), (0.5, -0.1, 0.1), (0.5, 0.1, -1.0), (0.5, np.inf, 0.1)])
def test_a_bad_prior(prior: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="prior is"):
        ebpo_advantages([1.0, 0.0], [[0], [0]], prior)
