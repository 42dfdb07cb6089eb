"""Decoding in which the rows of one prompt share its keys and values; the engine's hot loop.

A decode step spends most of its time in attention, and most of that in moving keys and values. So

- a prompt's keys and values are kept once. Its rows stand together in a grid, and their queries meet the prompt's
  keys in one product a head;
- each row's own keys and values lie in a buffer that is written in place and grows by blocks. All of the buffer takes
  part, what is not written yet being masked: slices would be copied before each product;
- the query heads that share a key head are multiplied together, so keys are never repeated.

transformers calls `attend` through its AttentionInterface. It builds no mask for an attention it does not know.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import AttentionInterface
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer, DynamicSlidingWindowLayer

from groupwise.rollout.layout import Layout
from groupwise.rollout.plain import Prefix, forward

ATTENTION = "groupwise_decode"
BLOCK = 32  # own tokens by which the buffers grow


def supports(model: nn.Module, prefix: Prefix) -> bool:
    """Whether the model attends through transformers' interface, in the ordinary way: all of the past, or a window of it."""
    return all(
        getattr(module, "_supports_attention_backend", False) and module.config._attn_implementation == "sdpa"
        for module in model.modules()
        if hasattr(module, "_supports_attention_backend")
    ) and all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in prefix.cache.layers)


class GroupedDecoder:
    """A running batch: B rows that go on from P prompts, `prompt_of_row` [B]."""

    def __init__(self, model: nn.Module, prefix: Prefix, prompt_of_row: Tensor) -> None:
        self._model = model
        self._positions = prefix.mask.sum(-1)[prompt_of_row]  # [B] of the next token
        self._cache = GroupedCache(prefix, prompt_of_row)

    def step(self, tokens: Tensor) -> Tensor:
        """Logits [B, V] after one more token a row [B]."""
        self._cache.advance()
        with _attention(self._model):
            logits = forward(
                self._model, tokens[:, None], self._positions[:, None], self._cache, groupwise_cache=self._cache
            )
        self._positions = self._positions + 1
        return logits

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        self._positions = self._positions[rows]
        self._cache.keep(rows)


class GroupedCache(Cache):
    """Keys and values of P prompts and of what B rows have added to them."""

    def __init__(self, prefix: Prefix, prompt_of_row: Tensor) -> None:
        device = prefix.mask.device
        autocast = torch.is_autocast_enabled(device.type)
        dtype = torch.get_autocast_dtype(device.type) if autocast else prefix.cache.layers[0].values.dtype
        self.layout, chosen = Layout.of(prompt_of_row)
        super().__init__(layers=[GroupedLayer(layer, chosen, len(prompt_of_row), dtype) for layer in prefix.cache.layers])
        # layers with the same window see the same past
        self.visible = {
            layer.window: Visible(prefix.mask[prompt_of_row], layer.window) for layer in self.layers
        }

    def advance(self) -> None:
        """Make room for one more token a row."""
        for part in (*self.layers, *self.visible.values()):
            part.advance()

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only; prompts without rows leave."""
        self.layout, chosen = self.layout.keep(rows)
        for layer in self.layers:
            layer.keep(rows, chosen)
        for visible in self.visible.values():
            visible.keep(rows)


class GroupedLayer(CacheLayerMixin):
    """One layer. Own keys and values lie in [B, H, C, D] (H key heads, D their size), C a multiple of BLOCK."""

    def __init__(self, read: DynamicLayer, chosen: Tensor, rows: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.window: int | None = read.sliding_window if isinstance(read, DynamicSlidingWindowLayer) else None
        self.prompt_keys = read.keys[chosen].to(dtype)  # [P, H, L, D]; L: the window - 1 last tokens, where there is one
        self.prompt_values = read.values[chosen].to(dtype)
        self.keys = self.prompt_keys.new_empty(rows, self.prompt_keys.shape[1], 0, self.prompt_keys.shape[3])
        self.values = self.prompt_values.new_empty(rows, self.prompt_values.shape[1], 0, self.prompt_values.shape[3])
        self.prompt_length, self.own_length = read.get_seq_length(), 0
        self.is_initialized = True

    def advance(self) -> None:
        if self.own_length == self.keys.shape[2]:
            # zeros, since a masked weight is 0 and 0 times garbage may be nan
            self.keys, self.values = pad(self.keys, (0, 0, 0, BLOCK)), pad(self.values, (0, 0, 0, BLOCK))
        self.own_length += 1

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the step's keys and values [B, H, 1, D]; returns the whole own buffers."""
        self.keys[:, :, self.own_length - 1] = key_states[:, :, 0]
        self.values[:, :, self.own_length - 1] = value_states[:, :, 0]
        return self.keys, self.values

    def keep(self, rows: Tensor, chosen: Tensor) -> None:
        self.keys, self.values = self.keys[rows], self.values[rows]
        if len(chosen) < len(self.prompt_keys):
            self.prompt_keys, self.prompt_values = self.prompt_keys[chosen], self.prompt_values[chosen]

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None: ...

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        return self.prompt_length + self.own_length - 1

    def get_max_length(self) -> int:
        return -1


class Visible:
    """What a row sees: `bias` [B, 1, 1, L + C] is 0 there and -inf elsewhere, over a prompt's and a row's own tokens."""

    def __init__(self, mask: Tensor, window: int | None) -> None:
        seen = mask if window is None else mask[:, mask.shape[1] - min(mask.shape[1], window - 1) :]
        self._window, self._prompt, self._own = window, seen.shape[1], 0
        self.bias = torch.zeros(seen.shape, device=mask.device).masked_fill_(seen == 0, -torch.inf)[:, None, None]

    def advance(self) -> None:
        """One more own token comes into view; the one that falls out of the window goes."""
        if self._prompt + self._own == self.bias.shape[-1]:
            self.bias = pad(self.bias, (0, BLOCK), value=-torch.inf)
        self.bias[..., self._prompt + self._own] = 0
        if self._window is not None and self._prompt + self._own >= self._window:
            self.bias[..., self._prompt + self._own - self._window] = -torch.inf
        self._own += 1

    def keep(self, rows: Tensor) -> None:
        self.bias = self.bias[rows]


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    groupwise_cache: GroupedCache,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of one new token a row: query [B, heads, 1, D], own key and value [B, H, C, D] -> [B, 1, heads, D].

    R = heads / H query heads share a key head. Softmax is float32, as in transformers' own.
    """
    layer, layout = groupwise_cache.layers[module.layer_idx], groupwise_cache.layout
    B, heads, _, D = query.shape
    H = key.shape[1]
    query = (query * (D**-0.5 if scaling is None else scaling)).to(key.dtype).view(B, H, heads // H, D)
    on_prompt = torch.matmul(layout.by_prompt(query), layer.prompt_keys.transpose(-1, -2))
    on_own = torch.matmul(query, key.transpose(-1, -2))
    scores = torch.cat([layout.by_row(on_prompt, heads // H), on_own], dim=-1)
    weights = torch.softmax(scores + groupwise_cache.visible[layer.window].bias, dim=-1).to(value.dtype)
    on_prompt, on_own = weights.split([on_prompt.shape[-1], on_own.shape[-1]], dim=-1)
    from_prompt = torch.matmul(layout.by_prompt(on_prompt), layer.prompt_values)
    out = layout.by_row(from_prompt, heads // H) + torch.matmul(on_own, value)
    return out.view(B, 1, heads, -1), None


AttentionInterface.register(ATTENTION, attend)


@contextmanager
def _attention(model: nn.Module) -> Iterator[None]:
    """Let the model attend by `attend`."""
    configs = {id(config): config for m in model.modules() if (config := getattr(m, "config", None)) is not None}
    before = [(config, config._attn_implementation) for config in configs.values() if hasattr(config, "_attn_implementation")]
    try:
        for config, _ in before:
            config._attn_implementation = ATTENTION
        yield
    finally:
        for config, implementation in before:
            config._attn_implementation = implementation
