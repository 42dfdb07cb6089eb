"""CISPO: the ratio is cut, not the update, so that no token loses its gradient.

    J = 1 / (sum_i |o_i|) sum_i sum_t sg[min(rho, 1 + eps_high)] A log pi(o_t)        sg: stop-gradient

MiniMax-M1, arXiv 2506.13585, equations 4 and 5, without the lower bound, as in the paper's experiments. The default
cuts at 5, which ScaleRL (arXiv 2510.13786) recommends: TRL's epsilon_high of 5 is our clip_high of 4.
The value of this loss means nothing by itself; only its gradient does.
"""

from __future__ import annotations

from torch import Tensor

from groupwise.loss.pieces import sum_of_tokens, token_ratio
from groupwise.loss.spec import Loss


def weighted_logprobs(ratio: Tensor, advantages: Tensor, logprobs: Tensor, low: float, high: float) -> Tensor:
    """[B, T] -sg[min(rho, 1 + high)] A log pi; `low` has no part in it."""
    return -ratio.clamp(max=1 + high).detach() * advantages * logprobs


# clip: the first number is a placeholder, there is no lower bound
CISPO = Loss(ratio=token_ratio, surrogate=weighted_logprobs, total=sum_of_tokens, unit="tokens", clip=(0.2, 4.0))
