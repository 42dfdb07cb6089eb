"""The estimators of the KL divergence, by enumeration of a small categorical."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from groupwise.loss.kl import k1, k2, k3, k3_corrected

from .cases import loss_and_gradient, options, random_case

QUICK = settings(max_examples=20, deadline=None)
logits = st.lists(st.floats(-2, 2), min_size=4, max_size=4).map(lambda x: torch.tensor(x, dtype=torch.float64))
Estimator = Callable[[Tensor, Tensor, Tensor], Tensor]  # (log pi, log ref, log old) [V] -> estimate of each token [V]

ON_POLICY: dict[str, Estimator] = {
    "k1": lambda pi, ref, old: k1(pi, ref),
    "k2": lambda pi, ref, old: k2(pi, ref),
    "k3": lambda pi, ref, old: k3(pi, ref),
    "k3_corrected": k3_corrected,
}


def expectation(estimator: Estimator, theta: Tensor, ref: Tensor, old: Tensor) -> tuple[Tensor, Tensor]:
    """Mean, and mean gradient with respect to theta, of the estimate over tokens drawn from softmax(old)."""
    theta = theta.clone().requires_grad_()
    log_old = old.log_softmax(0)
    value = (log_old.exp() * estimator(theta.log_softmax(0), ref.log_softmax(0), log_old)).sum()
    return value.detach(), torch.autograd.grad(value, theta)[0]


def truth(p_logits: Tensor, q_logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """KL(p || q) and its gradients with respect to both logits."""
    p, q = p_logits.clone().requires_grad_(), q_logits.clone().requires_grad_()
    value = (p.softmax(0) * (p.log_softmax(0) - q.log_softmax(0))).sum()
    for_p, for_q = torch.autograd.grad(value, (p, q))
    return value.detach(), for_p, for_q


@QUICK
@given(theta=logits, ref=logits, old=logits)
def test_k3_corrected_has_the_value_and_the_gradient_of_the_divergence_off_policy(
    theta: Tensor, ref: Tensor, old: Tensor
) -> None:
    value, gradient, _ = truth(theta, ref)
    estimate, estimated_gradient = expectation(k3_corrected, theta, ref, old)
    torch.testing.assert_close(estimate, value)
    torch.testing.assert_close(estimated_gradient, gradient)


@QUICK
@given(theta=logits, ref=logits)
def test_k3_on_policy_has_the_value_but_the_gradient_of_the_other_direction(theta: Tensor, ref: Tensor) -> None:
    value, _, _ = truth(theta, ref)
    _, _, other_direction = truth(ref, theta)
    estimate, gradient = expectation(ON_POLICY["k3"], theta, ref, theta)
    torch.testing.assert_close(estimate, value)
    torch.testing.assert_close(gradient, other_direction)


def test_k3_gradient_is_not_that_of_the_divergence() -> None:
    theta, ref = torch.tensor([[1.0, 0.0, -1.0], [-0.5, 0.5, 1.0]], dtype=torch.float64)
    _, gradient, _ = truth(theta, ref)
    assert (expectation(ON_POLICY["k3"], theta, ref, theta)[1] - gradient).norm() > 0.1 * gradient.norm()


@QUICK
@given(theta=logits, ref=logits)
def test_on_policy_k2_has_the_gradient_and_k1_has_none(theta: Tensor, ref: Tensor) -> None:
    value, gradient, _ = truth(theta, ref)
    torch.testing.assert_close(expectation(ON_POLICY["k2"], theta, ref, theta)[1], gradient)
    estimate, no_gradient = expectation(ON_POLICY["k1"], theta, ref, theta)
    torch.testing.assert_close(estimate, value)
    torch.testing.assert_close(no_gradient, torch.zeros_like(no_gradient))


@pytest.mark.parametrize("name", ON_POLICY)
def test_equal_policies_are_at_distance_zero(name: str) -> None:
    x = torch.tensor([[-1.0, -2.0]])
    assert (ON_POLICY[name](x, x, x) == 0).all()


def test_pinned() -> None:
    d = torch.tensor([0.5, -0.5], dtype=torch.float64)
    zero = torch.zeros_like(d)
    torch.testing.assert_close(k1(d, zero), d)
    torch.testing.assert_close(k2(d, zero), torch.tensor([0.125, 0.125], dtype=torch.float64))
    expected = torch.tensor([0.1065306597, 0.1487212707], dtype=torch.float64)
    torch.testing.assert_close(k3(d, zero), expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(k3_corrected(d, zero, d - 1), expected * torch.e, rtol=0, atol=1e-8)


def test_policy_loss_adds_beta_times_the_mean_over_tokens() -> None:
    case = random_case(11)
    pi, ref, old = (x[case.mask] for x in (case.logprobs, case.ref_logprobs, case.old_logprobs))
    policy, _ = loss_and_gradient(case.arguments(), **options("dapo"))
    for kl in ("k2", "k3", "k3_corrected"):
        both, _ = loss_and_gradient(
            case.arguments(), **options("dapo", ref_logprobs=case.ref_logprobs, beta=0.7, kl=kl)
        )
        torch.testing.assert_close(both - policy, 0.7 * ON_POLICY[kl](pi, ref, old).mean())
