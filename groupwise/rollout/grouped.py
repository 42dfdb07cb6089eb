"""Decoding in which the rows of one prompt share its keys and values; the engine's hot loop.

A decode step spends most of its time in attention, and most of that in moving keys and values. So

- a prompt's keys and values are kept once. Its rows stand together in a grid, and their queries meet the prompt's
  keys in one product a head. For one row this does not pay: it has its prompt in a buffer of its own;
- each row's own keys and values lie in a buffer that is written in place, and seldom grows;
- the query heads that share a key head are multiplied together, so keys are never repeated.

transformers calls `attend` through its AttentionInterface. It builds no mask for an attention it does not know.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from groupwise.attention import UnsupportedError, attending_by, attending_configs, check_arguments
from groupwise.rollout.cache import GroupedCache
from groupwise.rollout.plain import Prefix, forward

ATTENTION = "groupwise_decode"


class GroupedDecoder:
    """A running batch: B rows that go on from P prompts, `prompt_of_row` [B], and share them or not."""

    def __init__(self, model: nn.Module, prefix: Prefix, prompt_of_row: Tensor, shared: bool = True) -> None:
        self._model = model
        self._configs = attending_configs(model)
        self._positions = prefix.mask.sum(-1)[prompt_of_row]  # [B] of the next token
        self._cache, self._shared = GroupedCache(prefix, prompt_of_row, shared), shared

    def step(self, tokens: Tensor) -> Tensor:
        """Logits [B, V] after one more token a row [B]."""
        self._cache.advance()
        with attending_by(ATTENTION, self._configs):
            logits = forward(
                self._model, tokens[:, None], self._positions[:, None], self._cache, groupwise_cache=self._cache
            )
        self._positions = self._positions + 1
        return logits

    @property
    def lines(self) -> int:
        """Prompts that are cached: those of the layout's lines, or each row's own."""
        return len(self._cache.layout) if self._shared else len(self._positions)

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        self._positions = self._positions[rows]
        self._cache.keep(rows)

    def join(self, other: GroupedDecoder) -> None:
        """Take in the rows of a decoder that has made no step yet, behind these."""
        self._positions = torch.cat([self._positions, other._positions])
        self._cache.join(other._cache)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    groupwise_cache: GroupedCache | None = None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of one new token a row: query [B, heads, 1, D], own key and value [B, H, C, D] -> [B, 1, heads, D].

    R = heads / H query heads share a key head. Softmax is float32, as in transformers' own.
    """
    if groupwise_cache is None:
        raise UnsupportedError(f"{type(module).__name__} does not pass on the arguments of its model")
    layer, layout = groupwise_cache.layer(module.layer_idx), groupwise_cache.layout  # type: ignore[arg-type]
    check_arguments(module, attention_mask, kwargs)
    if key is not layer.keys or value is not layer.values:
        raise UnsupportedError(f"{type(module).__name__} does not attend to what it has cached")
    B, heads, _, D = query.shape
    R = heads // key.shape[1]
    query = query.to(key.dtype).reshape(B, -1, R, D)
    length = layer.prompt_keys.shape[2]
    scores = query @ key.transpose(-1, -2)
    if length:
        on_prompt = layout.by_prompt(query) @ layer.prompt_keys.transpose(-1, -2)
        scores = torch.cat([layout.by_row(on_prompt, R), scores], dim=-1)
    scores = torch.add(groupwise_cache.bias(layer), scores, alpha=D**-0.5 if scaling is None else scaling)
    on_prompt, on_own = scores.softmax(dim=-1).to(value.dtype).tensor_split([length], dim=-1)
    out = on_own @ value
    if length:
        out += layout.by_row(layout.by_prompt(on_prompt) @ layer.prompt_values, R)
    return out.reshape(B, 1, heads, -1), None


AttentionInterface.register(ATTENTION, attend)
