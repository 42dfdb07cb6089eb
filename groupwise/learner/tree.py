"""Siblings that share their prompt: each prompt passes through the model once, and its completions branch off it.

All tokens stand in one row without padding, first the prompts', then the completions'. Every token has the position
that it has in its own sequence, and attends to its prompt and to what its completion holds before it: a mask in the
form of a tree. Gradients are exactly those of the sequences one by one.

The last token of a completion predicts nothing and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from groupwise.attention import UnsupportedError, check_arguments

ATTENTION = "groupwise_tree"


class Tree:
    """P prompts of at most L tokens, and R completions that continue them, of at most C tokens each."""

    def __init__(self, prompts: Sequence[int], own: Sequence[int], lines: Sequence[int], device: torch.device) -> None:
        """Lengths of the prompts [P] and of the completions [R], and the prompt of each completion [R]."""
        self.device = device
        self.prompt_lengths, self.lines = (torch.tensor(x, device=device) for x in (prompts, lines))
        self.prompts, self.own = Grid(prompts, device), Grid(own, device)
        self._seen: dict[int | None, Tensor] = {}

    @cached_property
    def starts(self) -> Tensor:
        """[R] tokens before each completion."""
        return self.prompt_lengths[self.lines]

    def seen_by_prompts(self, window: int | None) -> Tensor | None:
        """[L, L] what a prompt's tokens see of it through a window; None: all before them."""
        if window is None or window >= self.prompts.width:
            return None
        at = torch.arange(self.prompts.width, device=self.device)
        apart = at[:, None] - at
        return (apart >= 0) & (apart < window)

    def seen_by_completions(self, window: int | None) -> Tensor:
        """[R, 1, C, L + C] what each token of a completion sees of its prompt and of its own."""
        if window not in self._seen:
            L, C = self.prompts.width, self.own.width
            places = torch.arange(L + C, device=self.device)
            in_prompt = places < self.starts[:, None]  # [R, L + C]
            own = places - L  # before 0 they are the prompt's
            position = torch.where(own < 0, places, self.starts[:, None] + own)  # [R, L + C]
            apart = position[:, L:, None] - position[:, None]  # [R, C, L + C]
            seen = (in_prompt | (own >= 0))[:, None] & (apart >= 0)
            self._seen[window] = (seen if window is None else seen & (apart < window))[:, None]
        return self._seen[window]


class Grid:
    """Sequences of different lengths, one behind the other, and their places in a grid as wide as the longest."""

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.rows, self.width, self.tokens = len(lengths), max(lengths, default=0), sum(lengths)
        starts = [row * self.width for row in range(self.rows)]
        spans = [range(start, start + length) for start, length in zip(starts, lengths, strict=True)]
        self._places = torch.tensor([*chain.from_iterable(spans)], dtype=torch.long, device=device)

    def pad(self, x: Tensor) -> Tensor:
        """[tokens, H, D] -> [rows, H, width, D], zeros where there is no token."""
        cells = x if len(x) == self.rows * self.width else _place(x, self._places, self.rows * self.width)
        return cells.view(self.rows, self.width, *x.shape[1:]).transpose(1, 2)

    def flat(self, x: Tensor) -> Tensor:
        """[rows, H, width, D] -> [tokens, H, D]."""
        cells = x.transpose(1, 2).flatten(0, 1)
        return cells if len(cells) == self.tokens else _take(cells, self._places)


class _Place(torch.autograd.Function):
    """[n, ...] -> [size, ...] at different places: the other way is a plain choice, not a sum as torch believes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(places)
        return x.new_zeros(size, *x.shape[1:]).index_copy_(0, places, x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0].index_select(0, ctx.saved_tensors[0]), None, None


class _Take(torch.autograd.Function):
    """The reverse of `_Place`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.size = len(x)
        return x.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (out,) = gradients
        return out.new_zeros(ctx.size, *out.shape[1:]).index_copy_(0, ctx.saved_tensors[0], out), None


_place: Callable[[Tensor, Tensor, int], Tensor] = _Place.apply
_take: Callable[[Tensor, Tensor], Tensor] = _Take.apply


def tree_inputs(
    rows: Sequence[tuple[Sequence[int], Sequence[int]]], device: torch.device
) -> tuple[dict[str, Any], Tensor]:
    """(prompt, completion) pairs as one row of tokens, and which of its states [K] predict the completions' tokens."""
    prompts = list(dict.fromkeys(tuple(prompt) for prompt, _ in rows))
    line = {prompt: number for number, prompt in enumerate(prompts)}
    lines = [line[tuple(prompt)] for prompt, _ in rows]
    own = [tuple(completion)[:-1] for _, completion in rows]
    ids = [*chain.from_iterable(prompts), *chain.from_iterable(own)]
    positions = [range(len(prompt)) for prompt in prompts]
    positions += [range(len(prompts[p]), len(prompts[p]) + len(tokens)) for p, tokens in zip(lines, own, strict=True)]
    last = torch.tensor([len(prompt) for prompt in prompts]).cumsum(0) - 1  # state of each prompt's last token
    states, start = [], int(last[-1]) + 1
    for p, (_, completion), tokens in zip(lines, rows, own, strict=True):
        if completion:
            states.append(torch.cat([last[p : p + 1], start + torch.arange(len(tokens))]))
        start += len(tokens)
    tree = Tree([*map(len, prompts)], [*map(len, own)], lines, device)
    given = {
        "input_ids": torch.tensor([ids], device=device),
        "position_ids": torch.tensor([[*chain.from_iterable(positions)]], device=device),
        "groupwise_tree": tree,
    }
    return given, torch.cat(states).to(device) if states else torch.zeros(0, dtype=torch.long, device=device)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    groupwise_tree: Tree | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **arguments: Any,
) -> tuple[Tensor, None]:
    """Attention within the tree: query [1, heads, N, D], key and value [1, H, N, D] -> [1, N, heads, D]."""
    if groupwise_tree is None:
        raise UnsupportedError(f"{type(module).__name__} does not pass on the arguments of its model")
    check_arguments(module, attention_mask, arguments)
    tree, n = groupwise_tree, groupwise_tree.prompts.tokens
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # [N, heads, D]
    keys, values = tree.prompts.pad(k[:n]), tree.prompts.pad(v[:n])
    seen = tree.seen_by_prompts(sliding_window)
    out = _attend(tree.prompts.pad(q[:n]), keys, values, seen, scaling, causal=seen is None)
    parts = [tree.prompts.flat(out)]
    if tree.own.tokens:
        keys = torch.cat([keys.index_select(0, tree.lines), tree.own.pad(k[n:])], dim=2)
        values = torch.cat([values.index_select(0, tree.lines), tree.own.pad(v[n:])], dim=2)
        seen = tree.seen_by_completions(sliding_window)
        parts.append(tree.own.flat(_attend(tree.own.pad(q[n:]), keys, values, seen, scaling)))
    return torch.cat(parts)[None], None


def _attend(
    q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None, scaling: float | None, causal: bool = False
) -> Tensor:
    repeats = q.shape[1] // k.shape[1]
    if repeats > 1 and q.is_cuda:  # there only kernels that know no mask repeat keys by themselves
        k, v = (x.repeat_interleave(repeats, dim=1) for x in (k, v))
    grouped = k.shape[1] != q.shape[1]
    return scaled_dot_product_attention(q, k, v, seen, is_causal=causal, scale=scaling, enable_gqa=grouped)


AttentionInterface.register(ATTENTION, attend)
