"""A model's last states or logits at chosen tokens, and log-probs of completions under it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from groupwise.attention import UnsupportedError, attending_by, attending_configs, ordinary
from groupwise.learner.batch import Inputs, MicroBatch, padded_inputs
from groupwise.learner.head import slice_tokens, token_logprobs
from groupwise.learner.policy import autocast
from groupwise.learner.tree import ATTENTION, tree_inputs
from groupwise.types import UserError

_log = logging.getLogger(__name__)


def token_logits(model: nn.Module, at: Tensor, dtype: torch.dtype, **inputs: Tensor) -> Tensor:
    """Logits [K, V], float32, that the model gives at the tokens `at` [K] of its inputs [B, T], counted row by row.

    The model's own forward runs, with whatever it does to its logits, but only the chosen states reach the output head:
    the logits of all other tokens never exist.
    """
    return _forward(model, inputs, dtype, lambda states: states.flatten(0, 1).index_select(0, at)[None])[0].float()


def token_states(model: nn.Module, at: Tensor, dtype: torch.dtype, **inputs: Any) -> Tensor:
    """What the output head is given [K, d] at the same tokens; it computes nothing."""
    caught = []

    def catch(states: Tensor) -> Tensor:
        caught.append(states)
        return states[:, :0]

    _forward(model, inputs, dtype, catch)
    return caught[0].flatten(0, 1).index_select(0, at)


def _forward(
    model: nn.Module, inputs: Mapping[str, Any], dtype: torch.dtype, choose: Callable[[Tensor], Tensor]
) -> Tensor:
    """The model's logits where its head is given choose(states) instead of its states."""
    head: nn.Module = model.get_output_embeddings()  # type: ignore[operator]
    hook = head.register_forward_pre_hook(lambda _, states: (choose(states[0]),))
    try:
        with autocast(next(model.parameters()).device, dtype):
            logits: Tensor = model(**inputs, use_cache=False).logits
    finally:
        hook.remove()
    return logits


@dataclass(frozen=True)
class Forward:
    """How log-probs of completions under `model`, of logits / temperature, are computed in `dtype`.

    shared: siblings pass through the model with their prompt once (see tree.py); separate: the output head is called
    by itself, on slices of the states. Both are fit for most models; `fitted` finds out for which.
    """

    model: nn.Module
    temperature: float
    dtype: torch.dtype
    shared: bool = False
    separate: bool = False

    @property
    def slice(self) -> int:
        """Completion tokens whose logits may exist at once; all of them where the head cannot be called by itself."""
        return slice_tokens(self.model.config.get_text_config().vocab_size) if self.separate else 1 << 62  # type: ignore[operator, union-attr]

    def states(self, inputs: Inputs) -> Tensor:
        """[K, d] last states that predict the completions' tokens; [K, V], the logits, unless `separate`."""
        read = token_states if self.separate else token_logits
        if "groupwise_tree" not in inputs.given:
            return read(self.model, inputs.states, self.dtype, **inputs.given)
        with attending_by(ATTENTION, attending_configs(self.model)):
            return read(self.model, inputs.states, self.dtype, **inputs.given)

    def logits(self, states: Tensor) -> Tensor:
        """[K, V] of what `states` gave."""
        if not self.separate:
            return states
        with autocast(states.device, self.dtype):
            logits: Tensor = self.model.get_output_embeddings()(states)  # type: ignore[operator]
        return logits

    def logprobs(self, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies [K] of the targets [K] by what `states` gave; float32."""
        return token_logprobs(self.logits, states, targets, self.temperature, self.slice)

    def completions(self, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies [B, C] of a batch's completions; 0 where padded."""
        logprobs, entropy = self.logprobs(self.states(batch.inputs), batch.targets[batch.mask])
        return batch.spread(logprobs), batch.spread(entropy)


@torch.no_grad()
def fitted(model: nn.Module, temperature: float, dtype: torch.dtype, siblings: bool = True) -> Forward:
    """The fastest of the ways to compute log-probs that gives what the plain one gives, tried on a few tokens.

    `siblings`: whether there will be any that could share a prompt.
    """
    device = next(model.parameters()).device
    few = min(8, model.config.get_text_config().vocab_size)  # type: ignore[operator, union-attr]
    rows = [([i % few for i in prompt], [i % few for i in completion]) for prompt, completion in _FEW]
    plain = Forward(model, temperature, torch.float32)
    padded, tree = Inputs(*padded_inputs(rows, device)), Inputs(*tree_inputs(rows, device))
    right = plain.states(padded)

    def same(other: Forward, inputs: Inputs) -> bool:
        try:
            found = other.logits(other.states(inputs)).float()
        except (UnsupportedError, TypeError, ValueError, RuntimeError, AttributeError):
            return False
        tolerance = 1e-3 if next(model.parameters()).dtype is torch.float32 else 5e-2
        return bool((found - right).norm() <= tolerance * right.norm())

    way = replace(plain, separate=same(replace(plain, separate=True), padded))
    way = replace(way, shared=siblings and ordinary(model) and same(replace(way, shared=True), tree))
    kind = type(model).__name__
    if siblings and not way.shared:
        _log.warning("%s attends in a way of its own: every rollout passes through it with its prompt", kind)
    if not way.separate:
        _log.warning("%s changes its logits: those of a whole micro-batch are computed at once", kind)
    return replace(way, dtype=dtype)


_FEW = [((1, 2, 3), (4, 5)), ((1, 2, 3), (6, 7, 1)), ((4, 3, 2, 1, 5), (2, 6))]  # prompts and completions


def recompute_layers(model: nn.Module) -> None:
    """From now on keep each layer's input only, and compute the rest again in the backward pass (arXiv 1604.06174).

    transformers has a switch for it, but that works in training mode alone, where dropout would be on. Raises UserError
    for a model whose layers are not marked as fit for it.
    """
    layers: list[Any] = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise UserError(f"update.gradient_checkpointing: {type(model).__name__} has no layers that can be recomputed")
    configs = attending_configs(model)
    for layer in layers:
        layer.forward = partial(_recomputed, layer.forward, configs)


def _recomputed(forward: Callable[..., Any], configs: list[Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():  # generation has nothing to keep, and writes its cache once
        return forward(*args, **kwargs)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Of the first pass and of the second, which happens when the first one's attention is no longer set."""
        return nullcontext(), attending_by(ATTENTION, configs) if "groupwise_tree" in kwargs else nullcontext()

    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, context_fn=contexts, **kwargs)
