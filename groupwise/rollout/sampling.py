"""Drawing the next token: temperature, top-k, top-p, and random numbers that belong to the row, not to the batch.

Every row has a stream of its own, so a draw depends only on (seed, key, position): not on the other rows, on their
order, or on how many have already finished. The streams are SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): state s_0
is a hash of seed and key, and number t is mix(s_0 + (t + 1) * GAMMA). It needs no state between steps, so all the
numbers of a batch come from one vectorised expression.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

GAMMA = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, odd
MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB


def uniforms(seed: int, keys: Sequence[int], length: int) -> Tensor:
    """[B, length] float64 in [0, 1): row b holds positions 0..length-1 of the stream (seed, keys[b])."""
    start = _mix(torch.tensor([_signed(key) for key in keys], dtype=torch.int64) ^ _mix_int(seed))
    positions = torch.arange(1, length + 1, dtype=torch.int64)
    bits = _mix(start[:, None] + positions * _signed(GAMMA))
    return _shift_right(bits, 11).double() * 2.0**-53


def log_probs(logits: Tensor, temperature: float) -> Tensor:
    """[B, V] float32 log-probs of logits / temperature, before top-k and top-p: what completions report."""
    return torch.log_softmax(logits.float() / temperature, dim=-1)


def draw(logprobs: Tensor, uniform: Tensor, *, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """[B] one token a row by inverting the cumulative distribution of logprobs [B, V] at uniform [B].

    top_k keeps the k most likely tokens; top_p then keeps the fewest of those that reach this share of their mass.
    """
    if top_k <= 0 and top_p >= 1:
        return _invert(logprobs.exp(), uniform)
    if 0 < top_k < logprobs.shape[-1]:
        ranked, tokens = logprobs.topk(top_k, dim=-1)  # descending
    else:
        ranked, tokens = logprobs.sort(dim=-1, descending=True, stable=True)
    probs = ranked.softmax(dim=-1)
    if top_p < 1:
        # a token stays when the mass before it falls short of top_p, so the first always stays
        probs = probs * (probs.cumsum(-1) - probs < top_p)
        probs[:, 0] = ranked.softmax(dim=-1)[:, 0]
    return tokens.gather(-1, _invert(probs, uniform)[:, None])[:, 0]


def _invert(probs: Tensor, uniform: Tensor) -> Tensor:
    """[B] the first index whose cumulative probability exceeds uniform * total; indices of probability 0 never come."""
    cumulative = probs.cumsum(-1, dtype=torch.float64)
    total = cumulative[:, -1]
    target = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target[:, None], right=True)[:, 0]


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser, elementwise on int64 taken as 64 unsigned bits; products wrap."""
    x = (x ^ _shift_right(x, 30)) * _signed(MIX_1)
    x = (x ^ _shift_right(x, 27)) * _signed(MIX_2)
    return x ^ _shift_right(x, 31)


def _mix_int(x: int) -> int:
    return int(_mix(torch.tensor(_signed(x + GAMMA), dtype=torch.int64)))


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift: torch's own keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(x: int) -> int:
    """The int64 with the same low 64 bits."""
    return (x + 2**63) % 2**64 - 2**63
