"""GRPO: the mean over completions of the mean over the completion's tokens.

    J = 1/G sum_i 1/|o_i| sum_t min(rho A, clip(rho, 1 - eps, 1 + eps) A) - beta KL

DeepSeekMath, arXiv 2402.03300, equation 3. Each completion weighs the same, so a token of a long one weighs less.
We average over all completions of the update at once; with groups of one size that is the paper's mean of group means.
"""

from __future__ import annotations

from groupwise.loss.pieces import clipped_surrogate, sum_of_row_means, token_ratio
from groupwise.loss.spec import Loss

GRPO = Loss(ratio=token_ratio, surrogate=clipped_surrogate, total=sum_of_row_means, unit="completions", clip=(0.2, 0.2))
