"""From a model's last states to log-probs of tokens, in slices, so that all the logits never exist together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

SLICE_BYTES = 1 << 27  # of the float32 logits that exist at once


def slice_tokens(vocabulary: int) -> int:
    """Tokens whose logits may exist at once."""
    return max(1, SLICE_BYTES // (4 * vocabulary))


def token_logprobs(
    logits: Callable[[Tensor], Tensor], states: Tensor, targets: Tensor, temperature: float, tokens: int
) -> tuple[Tensor, Tensor]:
    """Log-probs of the targets [K], of logits(states [K, ...]) / temperature, and the entropies [K]; float32.

    At most `tokens` tokens at a time. Where more are given their logits are computed again in the backward pass.
    The entropy carries no gradient.
    """

    def of(states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return LogProbs.apply(logits(states), targets, temperature)  # type: ignore[no-any-return, no-untyped-call]

    if len(targets) <= tokens:
        return of(states, targets)
    parts = [
        checkpoint(of, *part, use_reentrant=False)
        for part in zip(torch.split(states, tokens), torch.split(targets, tokens), strict=True)
    ]
    logprobs, entropies = zip(*parts, strict=True)
    return torch.cat(logprobs), torch.cat(entropies)


class LogProbs(torch.autograd.Function):
    """(logits [K, V], targets [K], temperature) -> log-probs [K], entropies [K]. For backward it keeps one [K, V]."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        scores = torch.log_softmax(logits.float() / temperature, dim=-1)
        chosen = scores.gather(-1, targets[:, None])[:, 0]
        probs = scores.exp()
        entropy = -torch.linalg.vecdot(probs, scores)
        ctx.save_for_backward(probs, targets)
        ctx.temperature, ctx.dtype = temperature, logits.dtype
        ctx.mark_non_differentiable(entropy)
        return chosen, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        probs, targets = ctx.saved_tensors
        scale = gradients[0] / ctx.temperature
        out = probs * -scale[:, None]
        out.scatter_add_(1, targets[:, None], scale[:, None])
        return out.to(ctx.dtype), None, None
