"""What the ratio did in an update: how often it was clipped, and how far it went."""

from __future__ import annotations

import torch
from torch import Tensor

from groupwise.loss.inputs import prepare
from groupwise.loss.kinds import find


@torch.no_grad()
def ratio_diagnostics(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    kind: str,
    clip_low: float,
    clip_high: float,
) -> dict[str, Tensor]:
    """Scalars over the valid tokens; inputs as for `policy_loss`. No valid token: all 0.

    clip_low, clip_high: share of tokens whose gradient the clip stops (ratio below with A < 0, above with A > 0).
    cispo: clip_high is the share whose ratio is cut, whatever A, and clip_low is 0. clip_fraction: their sum.
    ratio_mean, ratio_max: of the ratio that the loss clips, so gspo's is the row's, at each of its tokens.
    Means of micro-batches combine weighted by their number of valid tokens. ValueError as `policy_loss`.
    """
    loss = find(kind)
    x = prepare(logprobs, old_logprobs, advantages, mask)
    ratio = loss.ratio(x.logprobs - x.old_logprobs, x.mask).expand(x.mask.shape)
    below, above = ratio < 1 - clip_low, ratio > 1 + clip_high
    if kind == "cispo":
        below = torch.zeros_like(below)
    else:
        below, above = below & (x.advantages < 0), above & (x.advantages > 0)
    count = x.mask.sum().clamp(min=1)
    # padding is in neither: it has A = 0, and in cispo the ratio 1
    low, high = below.sum() / count, above.sum() / count
    valid_ratio = ratio * x.mask
    return {
        "clip_low": low,
        "clip_high": high,
        "clip_fraction": low + high,
        "ratio_mean": valid_ratio.sum() / count,
        "ratio_max": valid_ratio.max() if valid_ratio.numel() else valid_ratio.sum(),
    }
