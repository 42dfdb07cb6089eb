"""What several losses share. The mask is bool; at padded positions all other inputs are 0 (see inputs.py)."""

from __future__ import annotations

import torch
from torch import Tensor

# e^20 is beyond any ratio that means something, and exp() of more overflows: inf x 0 in the backward pass is NaN.
MAX_LOG_RATIO = 20.0


def bounded_exp(x: Tensor) -> Tensor:
    """exp(x), constant above MAX_LOG_RATIO; any shape."""
    return torch.exp(x.clamp(max=MAX_LOG_RATIO))


def token_ratio(log_ratio: Tensor, mask: Tensor) -> Tensor:
    """[B, T] rho_t = pi(o_t) / pi_old(o_t)."""
    return bounded_exp(log_ratio)


def clipped_surrogate(ratio: Tensor, advantages: Tensor, logprobs: Tensor, low: float, high: float) -> Tensor:
    """[B, T] -min(rho A, clip(rho, 1 - low, 1 + high) A): PPO, arXiv 1707.06347, equation 7."""
    return -torch.min(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)


def sum_of_row_means(token_loss: Tensor, mask: Tensor, max_length: int | None) -> Tensor:
    """Scalar: sum over rows of the mean over the row's valid tokens; an empty row adds 0."""
    return ((token_loss * mask).sum(-1) / mask.sum(-1).clamp(min=1)).sum()


def sum_of_tokens(token_loss: Tensor, mask: Tensor, max_length: int | None) -> Tensor:
    """Scalar: sum over all valid tokens."""
    return (token_loss * mask).sum()
