"""PPO: the traditional clipped loss, for comparison; the mean over all valid tokens, the same room on both sides.

    J = mean_t min(rho_t A_t, clip(rho_t, 1 - eps, 1 + eps) A_t)

arXiv 1707.06347, equation 7. Departure: there is no value function, so A comes from any estimator, [B] or [B, T].
"""

from __future__ import annotations

from groupwise.loss.pieces import clipped_surrogate, sum_of_tokens, token_ratio
from groupwise.loss.spec import Loss

PPO = Loss(ratio=token_ratio, surrogate=clipped_surrogate, total=sum_of_tokens, unit="tokens", clip=(0.2, 0.2))
