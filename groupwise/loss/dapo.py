"""DAPO: the mean over all valid tokens, with more room above than below ("clip-higher").

    J = 1 / (sum_i |o_i|) sum_i sum_t min(rho A, clip(rho, 1 - eps_low, 1 + eps_high) A)

arXiv 2503.14476, equation 8; eps .2 / .28 from its section 4.1. The paper drops the KL term; here `beta` still adds it.
Its overlong shaping and dynamic sampling happen before the loss and are not here.
"""

from __future__ import annotations

from groupwise.loss.pieces import clipped_surrogate, sum_of_tokens, token_ratio
from groupwise.loss.spec import Loss

DAPO = Loss(ratio=token_ratio, surrogate=clipped_surrogate, total=sum_of_tokens, unit="tokens", clip=(0.2, 0.28))
