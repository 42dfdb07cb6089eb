"""Decoding through transformers' own cache and masks: the fallback of `grouped`, for every model that takes them."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel


class Prefix(NamedTuple):
    """P prompts as the model has read them, left-padded to the longest, L tokens."""

    cache: Any  # DynamicCache of P rows
    mask: Tensor  # [P, L] 1 for a token, 0 for padding
    logits: Tensor  # [P, V] of the token that follows


def read(model: nn.Module, prompts: list[tuple[int, ...]], device: torch.device) -> Prefix:
    """Run the prompts [P] through the model, once each."""
    width = max(map(len, prompts))
    tokens = torch.zeros(len(prompts), width, dtype=torch.int64)
    mask = torch.zeros_like(tokens)
    for i, prompt in enumerate(prompts):
        tokens[i, width - len(prompt) :] = torch.tensor(prompt)
        mask[i, width - len(prompt) :] = 1
    tokens, mask = tokens.to(device), mask.to(device)
    config: Any = model.config
    past = DynamicCache(config=config)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    return Prefix(past, mask, forward(model, tokens, positions, past, attention_mask=mask))


def forward(model: nn.Module, tokens: Tensor, positions: Tensor, past: Any, **inputs: Any) -> Tensor:
    """Logits [B, V] of the last of the tokens [B, T]."""
    kind: Any = type(next((m for m in model.modules() if isinstance(m, PreTrainedModel)), model))
    accepted = _inputs(kind)
    if "position_ids" in accepted:  # models that count from the mask do not take it
        inputs["position_ids"] = positions
    if "logits_to_keep" in accepted:
        inputs["logits_to_keep"] = 1
    if "cache_params" in accepted:  # of a recurrent model, whose state has no columns that a mask could hide
        inputs["cache_params"] = past
        if tokens.shape[1] == 1:
            inputs.pop("attention_mask", None)
    else:
        inputs["past_key_values"] = past
    out = model(input_ids=tokens, use_cache=True, **inputs)
    logits: Tensor = out.logits[:, -1]
    return logits


@cache
def _inputs(kind: Any) -> frozenset[str]:
    """What a model takes by name; wrappers such as PEFT's pass on whatever they are given."""
    return frozenset(inspect.signature(kind.forward).parameters)


class PlainDecoder:
    """A running batch: B rows that go on from P prompts, `prompt_of_row` [B]."""

    def __init__(self, model: nn.Module, prefix: Prefix, prompt_of_row: Tensor) -> None:
        self._model, self._cache, self._mask = model, prefix.cache, prefix.mask
        self._positions = prefix.mask.sum(-1)  # [B] of the next token
        self.keep(prompt_of_row)

    def step(self, tokens: Tensor) -> Tensor:
        """Logits [B, V] after one more token a row [B]."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self._mask), 1)], dim=-1)
        logits = forward(self._model, tokens[:, None], self._positions[:, None], self._cache, attention_mask=self._mask)
        self._positions = self._positions + 1
        return logits

    @property
    def lines(self) -> int:
        """Prompts that are cached: each row's own."""
        return len(self._mask)

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        self._cache.reorder_cache(rows)  # selects and repeats in any order, in every kind of layer
        self._mask, self._positions = self._mask[rows], self._positions[rows]
