"""Scaling by a standard deviation."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from groupwise.advantage import estimate, scaled

from .cases import Batch, batches


@settings(max_examples=30, deadline=None)
@given(batch=batches())
def test_each_group_is_divided_by_its_own_deviation_or_all_by_the_batchs(batch: Batch) -> None:
    rewards, levels = batch
    prompt = levels[:, -1]
    plain = estimate("grpo", rewards, levels, "none")

    def deviation(values: Any) -> float:
        return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0

    by_group = [a / (deviation(rewards[prompt == p]) + 1e-4) for a, p in zip(plain, prompt, strict=True)]
    np.testing.assert_allclose(estimate("grpo", rewards, levels, "group"), by_group, atol=1e-9)
    by_batch = plain / (deviation(rewards) + 1e-4)
    np.testing.assert_allclose(estimate("grpo", rewards, levels, "batch"), by_batch, atol=1e-9)


def test_pinned() -> None:
    # rewards 1, 0 have the standard deviation sqrt(1/2)
    np.testing.assert_allclose(
        estimate("grpo", [1, 0, 3, 3], [[0], [0], [1], [1]]), [0.5 / (0.5**0.5 + 1e-4), -0.5 / (0.5**0.5 + 1e-4), 0, 0]
    )


def test_it_equals_trl() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("trl")
        import torch
        from trl.trainer.utils import nanstd

    rewards = torch.rand(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rewards[2] = 0.25
    levels = np.repeat(np.arange(6), 4)[:, None]
    centred = rewards - rewards.mean(1, keepdim=True)
    by_group, by_batch = centred / (nanstd(rewards, dim=1)[:, None] + 1e-4), centred / (nanstd(rewards) + 1e-4)
    flat = rewards.flatten().numpy()
    np.testing.assert_allclose(estimate("grpo", flat, levels), by_group.flatten().numpy(), atol=1e-12)
    np.testing.assert_allclose(estimate("grpo", flat, levels, "batch"), by_batch.flatten().numpy(), atol=1e-12)


def test_errors() -> None:
    with pytest.raises(ValueError, match="unknown scale 'all'; allowed: none, group, batch"):
        scaled([0.0], [0.0], [[0]], "all")
    with pytest.raises(ValueError, match=r"advantages is \[2\].*\[1\]"):
        scaled([0.0, 0.0], [0.0], [[0]], "none")
