"""Keys and values of prompts, kept once, and of what the rows of a batch add to them. See `grouped`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicSlidingWindowLayer

from groupwise.rollout.layout import Layout
from groupwise.rollout.plain import Prefix

BLOCK = 32  # own tokens by which the buffers grow


class GroupedCache(Cache):
    """What B rows that go on from P prompts have cached; the layout says which row reads which prompt."""

    def __init__(self, prefix: Prefix, prompt_of_row: Tensor) -> None:
        device = prefix.mask.device.type
        read = prefix.cache.layers
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else read[0].values.dtype
        self.layout, lines = Layout.of(prompt_of_row)
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
            view.advance()

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only; prompts without rows leave."""
        self.layout, lines = self.layout.keep(rows)
        for layer in self._layers:
            layer.keep(rows, lines)
        for view in self._views.values():
            view.keep(rows)


class GroupedLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One layer, with H key heads of size D. L: the prompts' length, of a sliding window only the last of it."""

    def __init__(self, read: Any, lines: Tensor, rows: int, dtype: torch.dtype) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.window: int | None = read.sliding_window if isinstance(read, DynamicSlidingWindowLayer) else None
        self.prompt_keys: Tensor = read.keys[lines].to(dtype)  # [P, H, L, D]
        self.prompt_values: Tensor = read.values[lines].to(dtype)
        self.keys: Tensor = _empty_like(self.prompt_keys, rows)  # [B, H, C, D], C a multiple of BLOCK
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

    def keep(self, rows: Tensor, lines: Tensor) -> None:
        self.keys, self.values = self.keys[rows], self.values[rows]
        if len(lines) < len(self.prompt_keys):
            self.prompt_keys, self.prompt_values = self.prompt_keys[lines], self.prompt_values[lines]

    def get_seq_length(self) -> int:
        """Tokens before the new one."""
        return self._prompt + max(self._own - 1, 0)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        return -1

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None: ...


class View:
    """What the rows see of the L prompt tokens and the C places of their own, through a window or without one."""

    def __init__(self, mask: Tensor, window: int | None) -> None:
        length = mask.shape[1]
        seen = mask if window is None else mask[:, length - min(length, window - 1) :]
        self.bias = torch.zeros(seen.shape, device=mask.device).masked_fill_(seen == 0, -torch.inf)[:, None, None]
        self._window, self._next = window, seen.shape[1]

    def advance(self) -> None:
        """The new token comes into view; the one that falls out of the window leaves it."""
        if self._next == self.bias.shape[-1]:
            self.bias = pad(self.bias, (0, BLOCK), value=-torch.inf)
        self.bias[..., self._next] = 0
        if self._window is not None and self._next >= self._window:
            self.bias[..., self._next - self._window] = -torch.inf
        self._next += 1

    def keep(self, rows: Tensor) -> None:
        self.bias = self.bias[rows]


def _empty_like(prompts: Tensor, rows: int) -> Tensor:
    return prompts.new_empty(rows, prompts.shape[1], 0, prompts.shape[3])
