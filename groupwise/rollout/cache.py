"""Keys and values of prompts, kept once, and of what the rows of a batch add to them. See `grouped`.

All rows write a token's keys and values into the same column of their buffers, whatever their age: a row that joined
later does not see the columns before. So a step costs the same whether rows were joined or not.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicSlidingWindowLayer

from groupwise.rollout.layout import Layout
from groupwise.rollout.plain import Prefix

BLOCK = 16  # columns by which the buffers grow


class GroupedCache(Cache):
    """What B rows that go on from P prompts have cached; the layout says which row reads which prompt."""

    def __init__(self, prefix: Prefix, prompt_of_row: Tensor) -> None:
        device = prefix.mask.device.type
        read = prefix.cache.layers
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else read[0].values.dtype
        self.layout, lines = Layout.of(prompt_of_row)
        self._lengths = prefix.mask.sum(-1)[lines]  # [P]
        self._ages = torch.zeros_like(prompt_of_row)  # [B] columns that the row has written
        self._layers = [GroupedLayer(layer, lines, len(prompt_of_row), dtype) for layer in read]
        super().__init__(layers=[*self._layers])
        windows = {layer.window for layer in self._layers}
        self._views = {window: View(prefix.mask[prompt_of_row], window) for window in windows}

    def layer(self, index: int) -> GroupedLayer:
        return self._layers[index]

    def bias(self, layer: GroupedLayer) -> Tensor:
        """[B, 1, 1, L + C] float32, to be added to the scores of a prompt's and a row's own tokens: 0 or -inf."""
        return self._views[layer.window].bias

    def advance(self) -> None:
        """Make room for one more token a row."""
        for layer in self._layers:
            layer.advance()
        for view in self._views.values():
            view.advance(self._ages)
        self._ages = self._ages + 1

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only. Prompts without rows leave, and columns that none of the rows has written."""
        self.layout, lines = self.layout.keep(rows)
        self._ages, self._lengths = self._ages[rows], self._lengths[lines]
        oldest, longest = torch.stack([self._ages.max(), self._lengths.max()]).tolist()
        for layer in self._layers:
            layer.keep(rows, lines, oldest, longest)
        for view in self._views.values():
            view.keep(rows, oldest, longest)

    def join(self, other: GroupedCache) -> None:
        """Take in rows that have written nothing yet, behind these."""
        self.layout = self.layout.join(other.layout)
        self._ages = torch.cat([self._ages, other._ages])
        self._lengths = torch.cat([self._lengths, other._lengths])
        for layer, joining in zip(self._layers, other._layers, strict=True):
            layer.join(joining)
        for window, view in self._views.items():
            view.join(other._views[window])


class GroupedLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One layer, with H key heads of size D. L: the longest prompt's length, of a sliding window only the last of it.

    C: the columns of the buffers, of which `_own` have been written.
    """

    def __init__(self, read: Any, lines: Tensor, rows: int, dtype: torch.dtype) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.window: int | None = read.sliding_window if isinstance(read, DynamicSlidingWindowLayer) else None
        self.prompt_keys: Tensor = read.keys[lines].to(dtype)  # [P, H, L, D], padded on the left
        self.prompt_values: Tensor = read.values[lines].to(dtype)
        self.keys: Tensor = _empty_like(self.prompt_keys, rows)  # [B, H, C, D]
        self.values: Tensor = _empty_like(self.prompt_values, rows)
        self._prompt: int = read.get_seq_length()
        self._own = 0
        self.is_initialized = True

    def advance(self) -> None:
        if self._own == self.keys.shape[2]:  # by zeros: a weight of 0 times garbage may be nan
            self.keys, self.values = pad(self.keys, (0, 0, 0, BLOCK)), pad(self.values, (0, 0, 0, BLOCK))
        self._own += 1

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the new token's keys and values [B, H, 1, D]; returns the whole buffers of the rows."""
        self.keys[:, :, self._own - 1] = key_states[:, :, 0]
        self.values[:, :, self._own - 1] = value_states[:, :, 0]
        return self.keys, self.values

    def keep(self, rows: Tensor, lines: Tensor, oldest: int, longest: int) -> None:
        unseen = self._own - oldest
        self.keys = self.keys[:, :, unseen:].index_select(0, rows)
        self.values = self.values[:, :, unseen:].index_select(0, rows)
        self._own = oldest
        if len(lines) < len(self.prompt_keys) or longest < self.prompt_keys.shape[2]:
            self.prompt_keys = self.prompt_keys[:, :, -longest:].index_select(0, lines)
            self.prompt_values = self.prompt_values[:, :, -longest:].index_select(0, lines)

    def join(self, other: GroupedLayer) -> None:
        self.prompt_keys = _stack(self.prompt_keys, other.prompt_keys)
        self.prompt_values = _stack(self.prompt_values, other.prompt_values)
        joining = (0, 0, 0, 0, 0, 0, 0, len(other.keys))
        self.keys, self.values = pad(self.keys, joining), pad(self.values, joining)

    def get_seq_length(self) -> int:
        """Tokens before the new one, of the rows that began first."""
        return self._prompt + max(self._own - 1, 0)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        return -1

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None: ...


class View:
    """What the rows see of the L prompt tokens and the C columns of their own, through a window or without one."""

    def __init__(self, mask: Tensor, window: int | None) -> None:
        length = mask.shape[1]
        seen = mask if window is None else mask[:, length - min(length, window - 1) :]
        self.bias = torch.zeros(seen.shape, device=mask.device).masked_fill_(seen == 0, -torch.inf)[:, None, None]
        self._window, self._prompt, self._own = window, seen.shape[1], 0

    def advance(self, ages: Tensor) -> None:
        """The new token comes into view; the one that falls out of the window leaves it. `ages` [B]: tokens before."""
        if self._prompt + self._own == self.bias.shape[-1]:
            self.bias = pad(self.bias, (0, BLOCK), value=-torch.inf)
        self.bias[..., self._prompt + self._own] = 0
        if self._window is not None:
            if self._own >= self._window:
                self.bias[..., self._prompt + self._own - self._window] = -torch.inf
            places = torch.arange(self._prompt, device=ages.device)
            gone = places <= self._prompt + ages[:, None] - self._window
            self.bias[..., : self._prompt].masked_fill_(gone[:, None, None], -torch.inf)
        self._own += 1

    def keep(self, rows: Tensor, oldest: int, longest: int) -> None:
        prompt, own = self.bias.tensor_split([self._prompt], dim=-1)
        prompt, own = prompt[..., -longest:], own[..., self._own - oldest :]
        self.bias = torch.cat([prompt, own], dim=-1)[rows]
        self._prompt, self._own = prompt.shape[-1], oldest

    def join(self, other: View) -> None:
        width, own = max(self._prompt, other._prompt), self.bias.shape[-1] - self._prompt
        here = pad(self.bias, (width - self._prompt, 0), value=-torch.inf)
        joining = pad(other.bias, (width - other._prompt, own), value=-torch.inf)
        self.bias, self._prompt = torch.cat([here, joining]), width


def _stack(one: Tensor, other: Tensor) -> Tensor:
    """[P, H, L, D] of prompts and of others, padded on the left to the longest."""
    width = max(one.shape[2], other.shape[2])
    return torch.cat([pad(x, (0, 0, width - x.shape[2], 0)) for x in (one, other)])


def _empty_like(prompts: Tensor, rows: int) -> Tensor:
    return prompts.new_empty(rows, prompts.shape[1], 0, prompts.shape[3])
