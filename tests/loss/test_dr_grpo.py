"""Dr. GRPO: closed forms."""

from __future__ import annotations

import pytest
import torch

from .cases import MAX_LENGTH, from_ratios, loss_and_gradient, on_policy_gradient


def test_on_policy_the_weight_of_a_token_depends_on_no_length() -> None:
    gradient, case = on_policy_gradient("dr_grpo")
    torch.testing.assert_close(gradient, -case.advantages[:, None] * case.mask / (5 * MAX_LENGTH))


def test_pinned() -> None:
    arguments = from_ratios([[1.5, 0.5, 1.0], [1.5, 0.5]], [1.0, -2.0])
    value, _ = loss_and_gradient(arguments, kind="dr_grpo", clip_low=0.2, clip_high=0.2, max_length=10)
    assert value.item() == pytest.approx(-(1.2 + 0.5 + 1 - 3 - 1.6) / (2 * 10))
