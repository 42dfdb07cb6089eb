"""The engine that samples and the learner that trains differ slightly in their log-probs: correct it, and measure it.

Truncated importance sampling: the token loss is multiplied by min(pi_old / pi_engine, cap), detached, where old is
recomputed by the learner. F. Yao et al., "On the Rollout-Training Mismatch in Modern RL Systems" (NeurIPS workshop,
2025).
"""

from __future__ import annotations

from torch import Tensor

from groupwise.loss.inputs import constant, working_dtype
from groupwise.loss.pieces import MAX_LOG_RATIO, bounded_exp


def importance_weights(old_logprobs: Tensor, engine_logprobs: Tensor, mask: Tensor, cap: float = 2.0) -> Tensor:
    """[B, T] min(exp(old - engine), cap), detached, the `weights` of `policy_loss`; min(1, cap) at padded positions.

    All inputs [B, T]. ValueError when shapes differ or `cap` is not positive.
    """
    if not cap > 0:
        raise ValueError(f"cap is {cap}; it must be positive")
    return bounded_exp(_log_ratio(old_logprobs, engine_logprobs, mask)).clamp(max=cap)


def mismatch(old_logprobs: Tensor, engine_logprobs: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """How far the learner's log-probs are from the engine's, over the valid tokens; all inputs [B, T], scalars out.

    abs: mean |old - engine|, nats; max: the largest; kl: KL(engine || old) by k3, as the tokens come from the engine.
    Means of micro-batches combine weighted by their number of valid tokens. No valid token: all 0.
    """
    log_ratio = _log_ratio(old_logprobs, engine_logprobs, mask)
    count = (mask != 0).sum().clamp(min=1)
    bounded = log_ratio.clamp(max=MAX_LOG_RATIO)
    distance = log_ratio.abs()
    return {
        "abs": distance.sum() / count,
        "max": distance.max() if distance.numel() else distance.sum(),
        "kl": (bounded.exp() - bounded - 1).sum() / count,
    }


def _log_ratio(old_logprobs: Tensor, engine_logprobs: Tensor, mask: Tensor) -> Tensor:
    """[B, T] old - engine, 0 at padded positions."""
    valid, dtype = mask != 0, working_dtype(old_logprobs)
    return constant("old_logprobs", old_logprobs, valid, dtype) - constant(
        "engine_logprobs", engine_logprobs, valid, dtype
    )
