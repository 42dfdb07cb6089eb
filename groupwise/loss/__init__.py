"""Policy losses as functions of tensors: one file a loss, put together by `policy_loss`."""

from groupwise.loss.diagnostics import ratio_diagnostics
from groupwise.loss.importance import importance_weights, mismatch
from groupwise.loss.kinds import DEFAULT_CLIP, LOSSES
from groupwise.loss.policy import loss_denominator, policy_loss

__all__ = [
    "DEFAULT_CLIP",
    "LOSSES",
    "importance_weights",
    "loss_denominator",
    "mismatch",
    "policy_loss",
    "ratio_diagnostics",
]
