"""Logits of chosen tokens, and log-probs of completions, under a model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from groupwise.learner.batch import MicroBatch
from groupwise.learner.policy import autocast


def token_logits(
    model: nn.Module, at: Sequence[torch.Tensor], dtype: torch.dtype, **inputs: torch.Tensor
) -> torch.Tensor:
    """Logits [K, V], float32, that the model gives at the tokens `at` (rows [K], columns [K]) of its inputs [B, T].

    The model's own forward runs, with whatever it does to its logits, but only the chosen states reach the output head:
    the logits of all other tokens never exist.
    """
    rows, columns = at

    def choose(head: nn.Module, states: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        return (states[0][rows, columns][None],)

    hook = model.get_output_embeddings().register_forward_pre_hook(choose)  # type: ignore[operator]
    try:
        with autocast(rows.device, dtype):
            logits: torch.Tensor = model(**inputs, use_cache=False).logits
    finally:
        hook.remove()
    return logits[0].float()


def completion_logprobs(
    model: nn.Module, batch: MicroBatch, temperature: float, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs and entropies [B, C] of the completion tokens, of logits / temperature, float32; 0 where padded.

    The entropy carries no gradient.
    """
    rows, _ = batch.mask.nonzero(as_tuple=True)
    logits = token_logits(model, (rows, batch.predictors()[batch.mask]), dtype, input_ids=batch.input_ids)
    scores = torch.log_softmax(logits / temperature, dim=-1)  # [tokens, V]
    chosen = scores.gather(-1, batch.targets[batch.mask][:, None])[:, 0]
    with torch.no_grad():
        entropy = -(scores.exp() * scores).sum(-1)
    zeros = torch.zeros(batch.mask.shape, device=chosen.device)
    return zeros.masked_scatter(batch.mask, chosen), zeros.masked_scatter(batch.mask, entropy)
