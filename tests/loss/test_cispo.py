"""CISPO: closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from .cases import from_ratios, loss_and_gradient, on_policy_gradient, options, random_case


def test_on_policy_it_is_reinforce() -> None:
    gradient, case = on_policy_gradient("cispo")
    torch.testing.assert_close(gradient, -case.advantages[:, None] * case.mask / case.mask.sum())


def test_pinned() -> None:
    # the ratio is cut above only, whatever the sign of A, and every token keeps a gradient: -min(rho, 1.2) A / 3
    value, gradient = loss_and_gradient(
        from_ratios([[1.5, 0.5], [1.5]], [1.0, -2.0]), kind="cispo", clip_low=0.2, clip_high=0.2
    )
    expected = torch.tensor([[-1.2, -0.5], [2.4, 0.0]], dtype=torch.float64) / 3
    torch.testing.assert_close(gradient, expected)
    logprobs = [math.log(0.75), math.log(0.25), math.log(0.75)]
    assert value.item() == pytest.approx(
        sum(c * x for c, x in zip([-1.2 / 3, -0.5 / 3, 2.4 / 3], logprobs, strict=True))
    )


def test_there_is_no_lower_bound() -> None:
    case = random_case(10)
    tight = loss_and_gradient(case.arguments(), **options("cispo", clip_low=0.0))
    loose = loss_and_gradient(case.arguments(), **options("cispo", clip_low=0.9))
    assert torch.equal(tight[1], loose[1])
