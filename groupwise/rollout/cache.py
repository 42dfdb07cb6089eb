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

BLOCK = 16  # columns by which the buffers grow at least; they grow by half, for each time all of them are copied


class GroupedCache(Cache):
    """What B rows that go on from P prompts have cached; the layout says which row reads which prompt.

    shared: the prompts are kept once; else each row's stands in its own buffer, as if the row had written it.
    """

    def __init__(self, prefix: Prefix, prompt_of_row: Tensor, shared: bool) -> None:
        device = prefix.mask.device.type
        read = prefix.cache.layers
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else read[0].values.dtype
        self.layout, lines = Layout.of(prompt_of_row)
        lengths = prefix.mask.sum(-1)
        self._lengths = lengths[lines] * shared  # [P]
        self._ages = lengths[prompt_of_row] * (not shared)  # [B] columns that the row has written
        self._layers = [GroupedLayer(layer, lines, prompt_of_row, dtype, shared) for layer in read]
        super().__init__(layers=[*self._layers])
        windows = {layer.window for layer in self._layers}
        self._views = {window: View(prefix.mask[prompt_of_row], window, shared) for window in windows}

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
    """One layer, with H key heads of size D. L: the longest prompt's length, of a sliding window only the last of it;
    0 where rows have their prompts in their own buffers. C: the columns that have been written, of `_rooms`.
    """

    def __init__(self, read: Any, lines: Tensor, prompt_of_row: Tensor, dtype: torch.dtype, shared: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.window: int | None = read.sliding_window if isinstance(read, DynamicSlidingWindowLayer) else None
        length = read.keys.shape[2] if shared else 0
        self._unwritten: int = read.get_seq_length() - (read.keys.shape[2] - length)  # tokens that no column stands for
        keys, values = read.keys.to(dtype), read.values.to(dtype)
        self.prompt_keys: Tensor = keys[:, :, :length].index_select(0, lines)  # [P, H, L, D], padded on the left
        self.prompt_values: Tensor = values[:, :, :length].index_select(0, lines)
        self.keys: Tensor = keys[:, :, length:].index_select(0, prompt_of_row)  # [B, H, C, D]
        self.values: Tensor = values[:, :, length:].index_select(0, prompt_of_row)
        self._rooms = self.keys, self.values
        self.is_initialized = True

    def advance(self) -> None:
        own = self.keys.shape[2]
        if own == self._rooms[0].shape[2]:
            more = (0, 0, 0, max(BLOCK, own // 2))
            self._rooms = pad(self._rooms[0], more), pad(self._rooms[1], more)
        self.keys, self.values = (room[:, :, : own + 1] for room in self._rooms)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the new token's keys and values [B, H, 1, D]; returns all that the rows have written."""
        self.keys[:, :, -1] = key_states[:, :, 0]
        self.values[:, :, -1] = value_states[:, :, 0]
        return self.keys, self.values

    def keep(self, rows: Tensor, lines: Tensor, oldest: int, longest: int) -> None:
        unseen = max(0, self.keys.shape[2] - oldest)
        self.keys = self.keys[:, :, unseen:].index_select(0, rows)
        self.values = self.values[:, :, unseen:].index_select(0, rows)
        self._rooms = self.keys, self.values
        if len(lines) < len(self.prompt_keys) or longest < self.prompt_keys.shape[2]:
            self.prompt_keys = self.prompt_keys[:, :, -longest:].index_select(0, lines)
            self.prompt_values = self.prompt_values[:, :, -longest:].index_select(0, lines)

    def join(self, other: GroupedLayer) -> None:
        self.prompt_keys = _stack(self.prompt_keys, other.prompt_keys)
        self.prompt_values = _stack(self.prompt_values, other.prompt_values)
        self.keys, self.values = _stack(self.keys, other.keys), _stack(self.values, other.values)
        self._rooms = self.keys, self.values

    def get_seq_length(self) -> int:
        """Tokens before the new one, of the rows that began first."""
        return self._unwritten + max(self.keys.shape[2] - 1, 0)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        return -1

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None: ...


class View:
    """What the rows see of the L prompt tokens and the C columns of their own, through a window or without one."""

    def __init__(self, mask: Tensor, window: int | None, shared: bool) -> None:
        length = mask.shape[1]
        seen = mask if window is None else mask[:, length - min(length, window - 1) :]
        self.bias = torch.zeros(seen.shape, device=mask.device).masked_fill_(seen == 0, -torch.inf)[:, None, None]
        self._room = self.bias
        self._window, self._prompt = window, seen.shape[1] if shared else 0

    def advance(self, ages: Tensor) -> None:
        """The new token comes into view; the one that falls out of the window leaves it. `ages` [B]: tokens before."""
        width = self.bias.shape[-1]
        if width == self._room.shape[-1]:
            self._room = pad(self._room, (0, max(BLOCK, width // 2)))
        self.bias = self._room[..., : width + 1]
        if self._window is not None:
            if width - self._prompt >= self._window:
                self.bias[..., width - self._window] = -torch.inf
            places = torch.arange(self._prompt, device=ages.device)
            gone = places <= self._prompt + ages[:, None] - self._window
            self.bias[..., : self._prompt].masked_fill_(gone[:, None, None], -torch.inf)

    def keep(self, rows: Tensor, oldest: int, longest: int) -> None:
        prompt, own = self.bias.tensor_split([self._prompt], dim=-1)
        prompt, own = prompt[..., -longest:], own[..., max(0, own.shape[-1] - oldest) :]
        self.bias = self._room = torch.cat([prompt, own], dim=-1)[rows]
        self._prompt = prompt.shape[-1]

    def join(self, other: View) -> None:
        parts = [view.bias.mT.tensor_split([view._prompt], dim=2) for view in (self, other)]
        prompt, own = (_stack(here, joining, -torch.inf) for here, joining in zip(*parts, strict=True))
        self.bias = self._room = torch.cat([prompt, own], dim=2).mT
        self._prompt = prompt.shape[2]


def _stack(one: Tensor, other: Tensor, fill: float = 0.0) -> Tensor:
    """[P, H, L, D] of some and of others, padded on the left to the longest."""
    width = max(one.shape[2], other.shape[2])
    return torch.cat([pad(x, (0, 0, width - x.shape[2], 0), value=fill) for x in (one, other)])
