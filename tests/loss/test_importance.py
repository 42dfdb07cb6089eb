"""Truncated importance sampling and the measure of the mismatch."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groupwise.loss import importance_weights, mismatch, policy_loss

from .cases import random_case


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), cap=st.floats(0.5, 5))
def test_weights_are_the_ratio_up_to_the_cap(seed: int, cap: float) -> None:
    case = random_case(seed, spread=1.0)
    weights = importance_weights(case.old_logprobs.requires_grad_(), case.ref_logprobs, case.mask, cap)
    ratio = (case.old_logprobs - case.ref_logprobs).detach().exp()
    torch.testing.assert_close(weights[case.mask], ratio[case.mask].clamp(max=cap))
    assert (weights[~case.mask] == min(1.0, cap)).all()
    assert not weights.requires_grad


def test_weights_are_one_on_policy_and_ignore_padding() -> None:
    case = random_case(1)
    mask = case.mask.float()
    assert (importance_weights(case.old_logprobs, case.old_logprobs, mask) == 1).all()
    soiled = case.old_logprobs.masked_fill(~case.mask, math.nan)
    assert (importance_weights(soiled, case.old_logprobs, mask) == 1).all()
    assert importance_weights(case.old_logprobs + 300, case.old_logprobs, mask, cap=2.0).max() == 2


def test_weights_make_the_gradient_that_of_the_learners_policy() -> None:
    # by enumeration: tokens drawn from the engine, weighted, give the mean gradient of tokens drawn from old
    old = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    engine = torch.tensor([0.4, 0.2, 0.4], dtype=torch.float64)
    advantages = torch.tensor([1.0, -1.0, 2.0], dtype=torch.float64)
    theta = old.log().requires_grad_()
    mask = torch.ones(1, 1)

    def mean_gradient(draw: torch.Tensor, weighted: bool) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for a in range(3):
            logprob, old_logprob = theta.log_softmax(0)[a].reshape(1, 1), old[a].log().reshape(1, 1)
            weights = (
                importance_weights(old_logprob, engine[a].log().reshape(1, 1), mask, cap=10.0) if weighted else None
            )
            total = total + draw[a] * policy_loss(
                logprob,
                old_logprob,
                advantages[a : a + 1],
                mask,
                kind="ppo",
                clip_low=0.2,
                clip_high=0.2,
                weights=weights,
            )
        return torch.autograd.grad(total, theta)[0]

    torch.testing.assert_close(mean_gradient(engine, True), mean_gradient(old, False))
    assert (mean_gradient(engine, False) - mean_gradient(old, False)).norm() > 0.1


def test_mismatch_of_equal_policies_is_zero_and_of_nothing_too() -> None:
    case = random_case(2)
    for mask in (case.mask, torch.zeros_like(case.mask)):
        assert all(value == 0 for value in mismatch(case.old_logprobs, case.old_logprobs, mask).values())
    empty = torch.zeros(2, 0)
    assert all(value == 0 for value in mismatch(empty, empty, empty).values())


def test_mismatch_measures_the_divergence_from_the_engine() -> None:
    # four tokens in the engine's own proportions make the mean over tokens the exact expectation
    engine, old = [0.5, 0.25, 0.25], [0.3, 0.5, 0.2]
    tokens = [0, 0, 1, 2]
    log_old, log_engine = (torch.tensor([[p[a] for a in tokens] + [math.nan]]).log() for p in (old, engine))
    result = mismatch(log_old, log_engine, torch.tensor([[1, 1, 1, 1, 0]]))
    distances = [abs(math.log(o / e)) for o, e in zip(old, engine, strict=True)]
    assert result["kl"].item() == pytest.approx(sum(e * math.log(e / o) for e, o in zip(engine, old, strict=True)))
    assert result["abs"].item() == pytest.approx(sum(e * d for e, d in zip(engine, distances, strict=True)))
    assert result["max"].item() == pytest.approx(max(distances))


def test_policies_that_are_worlds_apart_have_finite_weights_and_mismatch() -> None:
    far, near, mask = torch.tensor([[0.0, -300.0, -15.0]]), torch.zeros(1, 3), torch.tensor([[1.0, 2.0, 1.0]])
    assert importance_weights(near, far, mask).tolist() == [[1.0, 2.0, 2.0]]
    torch.testing.assert_close(importance_weights(far, near, mask), far.exp())
    result = mismatch(near, far, mask)  # an entry of the mask that is not 0 is a valid token, whatever it is
    assert result["abs"].item() == pytest.approx(105)
    assert result["max"].item() == 300
    assert result["kl"].item() == pytest.approx((math.exp(20) - 21 + math.exp(15) - 16) / 3, rel=1e-5)


def test_errors() -> None:
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="cap is 0"):
        importance_weights(x, x, x, cap=0)
    with pytest.raises(ValueError, match=r"engine_logprobs is \[2, 2\]"):
        mismatch(x, torch.zeros(2, 2), x)
    with pytest.raises(ValueError, match=r"old_logprobs is \[3\]"):
        importance_weights(torch.zeros(3), x, x)
