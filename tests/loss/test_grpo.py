"""GRPO: closed forms."""

from __future__ import annotations

import pytest
import torch

from .cases import from_ratios, loss_and_gradient, on_policy_gradient


def test_on_policy_each_completion_weighs_the_same() -> None:
    gradient, case = on_policy_gradient("grpo")
    length = case.mask.sum(-1, keepdim=True).clamp(min=1)
    torch.testing.assert_close(gradient, -case.advantages[:, None] / length / 5 * case.mask)


def test_pinned() -> None:
    # row 0: min(1.5, 1.2), min(.5, .8), 1 -> .9; row 1, A = -2: min(-3, -2.4), min(-1, -1.6) -> -2.3
    arguments = from_ratios([[1.5, 0.5, 1.0], [1.5, 0.5]], [1.0, -2.0])
    value, gradient = loss_and_gradient(arguments, kind="grpo", clip_low=0.2, clip_high=0.2)
    assert value.item() == pytest.approx(-(0.9 - 2.3) / 2)
    # d rho / d log pi = rho; the first of row 0 and the second of row 1 are clipped
    expected = torch.tensor([[0, -0.5 / 3, -1 / 3], [3 / 2, 0, 0]], dtype=torch.float64) / 2
    torch.testing.assert_close(gradient, expected)
