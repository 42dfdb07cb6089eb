"""Decoding through transformers' own cache and masks: slower, and right for every causal model."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache


class PlainDecoder:
    """The keys and values of a running batch. Rows are left-padded to the longest prompt."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._accepts = set(inspect.signature(model.forward).parameters)
        self._cache: Any = None
        self._mask = torch.empty(0)
        self._positions = torch.empty(0)

    def prefill(self, prompts: list[tuple[int, ...]], rows: Tensor) -> Tensor:
        """Logits [B, V] after prompts[rows]: each of the P prompts is read once, then copied to its rows [B]."""
        device, width = rows.device, max(map(len, prompts))
        tokens = torch.zeros(len(prompts), width, dtype=torch.int64, device=device)
        self._mask = torch.zeros_like(tokens)
        for i, prompt in enumerate(prompts):
            tokens[i, width - len(prompt) :] = torch.tensor(prompt, device=device)
            self._mask[i, width - len(prompt) :] = 1
        self._cache = DynamicCache(config=self._model.config)
        logits = self._forward(tokens, (self._mask.cumsum(-1) - 1).clamp(min=0))
        self._positions = self._mask.sum(-1)
        self.keep(rows)
        return logits[rows]

    def step(self, tokens: Tensor) -> Tensor:
        """Logits [B, V] after one more token a row [B]."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self._mask), 1)], dim=-1)
        logits = self._forward(tokens[:, None], self._positions[:, None])
        self._positions = self._positions + 1
        return logits

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        self._cache.reorder_cache(rows)  # selects and repeats, in any order
        self._mask, self._positions = self._mask[rows], self._positions[rows]

    def _forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        extra = {"position_ids": positions, "logits_to_keep": 1}
        out = self._model(
            input_ids=tokens,
            attention_mask=self._mask,
            past_key_values=self._cache,
            use_cache=True,
            **{name: value for name, value in extra.items() if name in self._accepts},
        )
        return out.logits[:, -1]
