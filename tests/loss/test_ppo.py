"""PPO: closed forms."""

from __future__ import annotations

import pytest
import torch

from .cases import from_ratios, loss_and_gradient, on_policy_gradient


def test_on_policy_each_token_weighs_the_same() -> None:
    gradient, case = on_policy_gradient("ppo")
    torch.testing.assert_close(gradient, -case.advantages[:, None] * case.mask / case.mask.sum())


def test_pinned_with_an_advantage_for_each_token() -> None:
    arguments = from_ratios([[1.5, 1.5], [0.5]], [0.0, 0.0])
    arguments["advantages"] = torch.tensor([[1.0, -1.0], [3.0, 0.0]], dtype=torch.float64)
    value, gradient = loss_and_gradient(arguments, kind="ppo", clip_low=0.2, clip_high=0.2)
    assert value.item() == pytest.approx(-(1.2 - 1.5 + 1.5) / 3)
    torch.testing.assert_close(gradient, torch.tensor([[0, 1.5], [-1.5, 0]], dtype=torch.float64) / 3)
