"""The one entry to all policy losses."""

from __future__ import annotations

import torch
from torch import Tensor

from groupwise.loss.inputs import constant, prepare
from groupwise.loss.kinds import find
from groupwise.loss.kl import kl_divergence
from groupwise.loss.spec import Loss


def policy_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    kind: str,
    clip_low: float,
    clip_high: float,
    ref_logprobs: Tensor | None = None,
    beta: float = 0.0,
    kl: str = "k3",
    max_length: int | None = None,
    denominator: float | Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """The loss of a micro-batch, a scalar to minimise, in the dtype of `logprobs` but at least float32.

        loss = total over rows and tokens of (weights x surrogate(ratio, A) + beta KL), divided as the kind says

    logprobs      [B, T] log pi of the tokens drawn, of logits / temperature; the only input that gets a gradient
    old_logprobs  [B, T] the same under the policy that the ratio is taken to
    advantages    [B] or [B, T]
    mask          [B, T] bool or number; 0 is padding, which may hold anything, even NaN; an empty row adds 0
    kind          grpo, dapo, dr_grpo, gspo, cispo or ppo: see their files for formula and paper
    clip_low, clip_high   the ratio is cut at 1 - clip_low and 1 + clip_high; DEFAULT_CLIP has each kind's own
    ref_logprobs  [B, T] needed where beta > 0; kl is k2, k3 or k3_corrected
    max_length    the generation budget in tokens, for dr_grpo
    denominator   count of the whole update (see `loss_denominator`); None: this batch's own. With it, the sum of the
                  losses of the micro-batches is the loss of the update, and so is the gradient.
    weights       [B, T] multiplies the policy term but not the KL; no gradient: truncated importance sampling

    Raises ValueError when a shape does not fit, a kind is unknown, or a needed argument is missing.
    """
    loss = find(kind)
    if not (clip_low >= 0 and clip_high >= 0):  # so that NaN is refused too
        raise ValueError(f"clip_low is {clip_low} and clip_high {clip_high}; they must not be negative or NaN")
    if not beta >= 0:
        raise ValueError(f"beta is {beta}; it must not be negative or NaN")
    x = prepare(logprobs, old_logprobs, advantages, mask)
    ratio = loss.ratio(x.logprobs - x.old_logprobs, x.mask)
    token_loss = loss.surrogate(ratio, x.advantages, x.logprobs, clip_low, clip_high)
    if weights is not None:
        token_loss = token_loss * constant("weights", weights, x.mask, token_loss.dtype)
    if beta > 0:
        if ref_logprobs is None:
            raise ValueError(f"beta is {beta}, so ref_logprobs [B, T] is needed; it is None")
        ref = constant("ref_logprobs", ref_logprobs, x.mask, token_loss.dtype)
        token_loss = token_loss + beta * kl_divergence(kl, x.logprobs, ref, x.old_logprobs)
    return loss.total(token_loss, x.mask, max_length) / _divisor(loss, x.mask, denominator)


def loss_denominator(kind: str, mask: Tensor) -> int:
    """The count that `denominator` of `policy_loss` takes; counts of micro-batches add up to that of the update.

    grpo, gspo, dr_grpo: the rows of mask [B, T], empty ones included; dapo, cispo, ppo: its valid tokens.
    ValueError when `kind` is unknown or the mask has another rank.
    """
    if mask.ndim != 2:
        raise ValueError(f"mask is {list(mask.shape)}; it must be [B, T]")
    return int(_count(find(kind), mask != 0))


def _count(loss: Loss, mask: Tensor) -> Tensor | int:
    return mask.sum() if loss.unit == "tokens" else mask.shape[0]


def _divisor(loss: Loss, mask: Tensor, denominator: float | Tensor | None) -> Tensor | float:
    count = _count(loss, mask) if denominator is None else denominator
    if isinstance(count, Tensor):
        if count.numel() != 1:
            raise ValueError(f"denominator is {list(count.shape)}; it must be one number")
        # 0: nothing is valid and the total is 0. Decided by where(), since an `if` would wait for the device.
        return torch.where(count == 0, 1, count).reshape(())
    if count < 0:
        raise ValueError(f"denominator is {count}; it must be a count of completions or tokens")
    return count or 1
