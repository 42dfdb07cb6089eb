"""Log-probs of completions under a model."""

from __future__ import annotations

import torch
from torch import nn

from groupwise.learner.batch import MicroBatch
from groupwise.learner.policy import autocast


def completion_logprobs(
    model: nn.Module, batch: MicroBatch, temperature: float, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs and entropies [B, C] of the completion tokens, of logits / temperature, float32; 0 where padded.

    Only the states that predict a completion token reach the output head, so the logits of prompts never exist.
    The entropy carries no gradient.
    """
    with autocast(batch.input_ids.device, dtype):
        hidden = model.get_decoder()(input_ids=batch.input_ids, use_cache=False).last_hidden_state  # type: ignore[operator]
        hidden = hidden.gather(1, batch.predictors()[..., None].expand(-1, -1, hidden.shape[-1]))
        logits = model.get_output_embeddings()(hidden[batch.mask])  # type: ignore[operator]
    scores = torch.log_softmax(logits.float() / temperature, dim=-1)  # [tokens, V]
    chosen = scores.gather(-1, batch.targets[batch.mask][:, None])[:, 0]
    with torch.no_grad():
        entropy = -(scores.exp() * scores).sum(-1)
    zeros = torch.zeros(batch.mask.shape, device=chosen.device)
    return zeros.masked_scatter(batch.mask, chosen), zeros.masked_scatter(batch.mask, entropy)
