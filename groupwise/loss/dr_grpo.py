"""Dr. GRPO: the sum over tokens, divided by a constant, so that a token's weight does not depend on any length.

    J = 1 / (B max_length) sum_i sum_t min(rho A, clip(rho, 1 - eps, 1 + eps) A)

arXiv 2503.20783, section 3 (the constant is the generation budget, in tokens). The paper's other half, an advantage
that is not divided by its standard deviation, is `scale="none"` of the estimator.
"""

from __future__ import annotations

from torch import Tensor

from groupwise.loss.pieces import clipped_surrogate, sum_of_tokens, token_ratio
from groupwise.loss.spec import Loss


def sum_over_budget(token_loss: Tensor, mask: Tensor, max_length: int | None) -> Tensor:
    """Scalar: sum over all valid tokens / max_length. ValueError without a positive `max_length`."""
    if max_length is None or max_length <= 0:
        # T of the batch would do once, but it changes with padding, and with it the gradient
        raise ValueError(f"loss dr_grpo needs max_length, the generation budget in tokens (> 0), not {max_length}")
    return sum_of_tokens(token_loss, mask, max_length) / max_length


DR_GRPO = Loss(
    ratio=token_ratio, surrogate=clipped_surrogate, total=sum_over_budget, unit="completions", clip=(0.2, 0.2)
)
