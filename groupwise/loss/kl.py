"""Estimators of the divergence KL(pi || ref) from tokens drawn from pi, with d = log pi - log ref of the drawn token.

    k1 = d                       unbiased, high variance; its gradient is 0 on average, so it goes into the reward
    k2 = d^2 / 2                 biased value; right gradient on policy
    k3 = exp(-d) + d - 1         unbiased, never negative; as a loss its gradient is that of KL(ref || pi), on policy
    k3_corrected = rho k3        rho = pi / pi_old, differentiated too: right value and gradient, on and off policy

k1 to k3: J. Schulman, "Approximating KL divergence" (2020); k3 in GRPO: arXiv 2402.03300, equation 4; k3_corrected:
DeepSeek-V3.2, arXiv 2512.02556, "unbiased KL estimate". All in nats a token; all tensors [B, T] of finite log-probs.
"""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from groupwise.loss.pieces import MAX_LOG_RATIO, bounded_exp

KL = Literal["k1", "k2", "k3", "k3_corrected"]
LOSS_KL = tuple(kind for kind in get_args(KL) if kind != "k1")


def k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """[B, T] log pi - log ref."""
    return logprobs - ref_logprobs


def k2(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """[B, T] (log pi - log ref)^2 / 2."""
    return (logprobs - ref_logprobs).square() / 2


def k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """[B, T] ref/pi - log(ref/pi) - 1."""
    # the whole of it is bounded: bounding exp alone would leave a gradient that pushes the wrong way
    log_inverse = (ref_logprobs - logprobs).clamp(max=MAX_LOG_RATIO)
    return log_inverse.exp() - log_inverse - 1


def k3_corrected(logprobs: Tensor, ref_logprobs: Tensor, old_logprobs: Tensor) -> Tensor:
    """[B, T] (pi / pi_old) k3, the gradient flowing through both factors. The ratio is the token's, for every loss."""
    return bounded_exp(logprobs - old_logprobs.detach()) * k3(logprobs, ref_logprobs)


def kl_divergence(kind: str, logprobs: Tensor, ref_logprobs: Tensor, old_logprobs: Tensor) -> Tensor:
    """[B, T] the estimate that may be added to a loss. ValueError for k1 and for unknown kinds."""
    if kind == "k2":
        return k2(logprobs, ref_logprobs)
    if kind == "k3":
        return k3(logprobs, ref_logprobs)
    if kind == "k3_corrected":
        return k3_corrected(logprobs, ref_logprobs, old_logprobs)
    reason = " (k1 goes into the reward)" if kind == "k1" else ""
    raise ValueError(f"kl {kind!r} cannot be part of a loss{reason}; allowed: {', '.join(LOSS_KL)}")
