"""Logits of chosen tokens, and log-probs of completions, under a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from groupwise.learner.batch import MicroBatch
from groupwise.learner.policy import autocast
from groupwise.types import UserError


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
        entropy = -scores.exp().mul_(scores).sum(-1)  # in place: [tokens, V] is the largest of all tensors
    zeros = torch.zeros(batch.mask.shape, device=chosen.device)
    return zeros.masked_scatter(batch.mask, chosen), zeros.masked_scatter(batch.mask, entropy)


def recompute_layers(model: nn.Module) -> None:
    """From now on keep each layer's input only, and compute the rest again in the backward pass (arXiv 1604.06174).

    transformers has a switch for it, but that works in training mode alone, where dropout would be on. Raises UserError
    for a model whose layers are not marked as fit for it.
    """
    layers: list[Any] = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise UserError(f"update.gradient_checkpointing: {type(model).__name__} has no layers that can be recomputed")
    for layer in layers:
        layer.forward = partial(_recomputed, layer.forward)


def _recomputed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():  # generation has nothing to keep, and writes its cache once
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)
