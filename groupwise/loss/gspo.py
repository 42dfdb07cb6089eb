"""GSPO: one ratio a completion, the geometric mean of its token ratios, clipped as a whole.

    s_i = (pi(o_i) / pi_old(o_i))^(1/|o_i|) = exp(1/|o_i| sum_t log rho_t)
    J   = 1/G sum_i min(s_i A_i, clip(s_i, 1 - eps_low, 1 + eps_high) A_i)

arXiv 2507.18071, equations 5 and 7; eps 3e-4 / 4e-4 from its section 5.1 (s_i hardly moves). KL stays per token.
With advantages [B, T], s_i multiplies each token's advantage and then the row is averaged, as in TRL. Every token still
pulls on s_i as a whole, so only the row's mean advantage matters while nothing is clipped; the paper's GSPO-token
(equation 13), which gives each token its own credit, is not this loss.
"""

from __future__ import annotations

from torch import Tensor

from groupwise.loss.pieces import bounded_exp, clipped_surrogate, sum_of_row_means
from groupwise.loss.spec import Loss


def sequence_ratio(log_ratio: Tensor, mask: Tensor) -> Tensor:
    """[B, 1] geometric mean of the row's ratios; 1 for an empty row."""
    return bounded_exp(log_ratio.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1))


GSPO = Loss(
    ratio=sequence_ratio, surrogate=clipped_surrogate, total=sum_of_row_means, unit="completions", clip=(3e-4, 4e-4)
)
