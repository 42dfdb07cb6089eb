"""GSPO: closed forms."""

from __future__ import annotations

import pytest
import torch

from .cases import from_ratios, loss_and_gradient, on_policy_gradient, options, random_case


def test_on_policy_it_is_grpo() -> None:
    gradient, _ = on_policy_gradient("gspo")
    torch.testing.assert_close(gradient, on_policy_gradient("grpo")[0])


def test_pinned() -> None:
    # geometric means: row 0 sqrt(4 x 1) = 2, not clipped since A < 0; row 1: .5, cut at .9 where A < 0
    arguments = from_ratios([[4.0, 1.0], [0.5]], [-1.0, -1.0])
    value, gradient = loss_and_gradient(arguments, kind="gspo", clip_low=0.1, clip_high=0.1)
    assert value.item() == pytest.approx((2 + 0.9) / 2)
    # d s / d log pi_t = s / |o|, the same at each token
    torch.testing.assert_close(gradient, torch.tensor([[1, 1], [0, 0]], dtype=torch.float64) / 2)


def test_a_completion_is_clipped_as_a_whole() -> None:
    case = random_case(8, spread=1.0)
    _, gradient = loss_and_gradient(case.arguments(), **options("gspo"))
    for row, mask in zip(gradient, case.mask, strict=True):
        assert len(row[mask].unique()) <= 1


def test_the_kl_stays_per_token() -> None:
    case = random_case(9)
    nothing = {**case.arguments(), "advantages": torch.zeros(5)}
    for kl in ("k2", "k3", "k3_corrected"):
        keywords = {"ref_logprobs": case.ref_logprobs, "beta": 1.0, "kl": kl}
        value, gradient = loss_and_gradient(nothing, **options("gspo", **keywords))
        grpo_value, grpo_gradient = loss_and_gradient(nothing, **options("grpo", **keywords))
        torch.testing.assert_close(value, grpo_value)
        torch.testing.assert_close(gradient, grpo_gradient)
