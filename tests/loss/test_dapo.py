"""DAPO: closed forms."""

from __future__ import annotations

import pytest
import torch

from .cases import from_ratios, loss_and_gradient, on_policy_gradient


def test_on_policy_each_token_weighs_the_same() -> None:
    gradient, case = on_policy_gradient("dapo")
    torch.testing.assert_close(gradient, -case.advantages[:, None] * case.mask / case.mask.sum())


def test_pinned() -> None:
    # A = 1: min(1.5, 1.28), min(.5, .8), 1; A = -2: min(-3, -2.56), min(-1, -1.6): five tokens
    arguments = from_ratios([[1.5, 0.5, 1.0], [1.5, 0.5]], [1.0, -2.0])
    value, gradient = loss_and_gradient(arguments, kind="dapo", clip_low=0.2, clip_high=0.28)
    assert value.item() == pytest.approx(-(1.28 + 0.5 + 1 - 3 - 1.6) / 5)
    expected = torch.tensor([[0, -0.5, -1], [3, 0, 0]], dtype=torch.float64) / 5
    torch.testing.assert_close(gradient, expected)


def test_there_is_more_room_above_than_below() -> None:
    _, gradient = loss_and_gradient(
        from_ratios([[1.25, 1.3], [0.75, 0.85]], [1.0, -1.0]), kind="dapo", clip_low=0.2, clip_high=0.28
    )
    assert (gradient != 0).tolist() == [[True, False], [False, True]]
