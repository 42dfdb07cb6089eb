"""Drawing the next token: temperature, top-k, top-p, and random numbers that belong to the row, not to the batch.

Every row has a stream of its own, so a draw depends only on (seed, key, position): not on the other rows, on their
order, or on how many have already finished. The streams are SplitMix64 (Steele, Lea, Flood, "Fast splittable
pseudorandom number generators", OOPSLA 2014): number t of a stream is mix(start + (t + 1) * GAMMA), where start is a
hash of seed and key. Nothing is kept between steps, so all the numbers of a batch are one expression.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from groupwise.types import UserError

GAMMA = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, odd
MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB

LARGE = 4096  # tokens
BLOCK = 64  # tokens of a large vocabulary whose masses are first added up
LIKELIEST = 1024  # tokens of a large vocabulary that are ranked first


def uniforms(seed: int, keys: Sequence[int], length: int) -> Tensor:
    """[B, length] float64 in [0, 1): row b holds positions 0 to length - 1 of the stream (seed, keys[b])."""
    of_seed = _mix(torch.tensor([_int64(seed + GAMMA)]))
    start = _mix(torch.tensor([_int64(key) for key in keys], dtype=torch.int64) ^ of_seed)
    bits = splitmix64(start[:, None], torch.arange(length))
    return _shift_right(bits, 11).double() * 2.0**-53


def splitmix64(start: Tensor, position: Tensor) -> Tensor:
    """64 random bits, as int64: number `position` (from 0) of the stream that begins at `start`, elementwise."""
    return _mix(start + (position + 1) * _int64(GAMMA))


def log_probs(logits: Tensor, temperature: float) -> Tensor:
    """[B, V] float32 log-probs of logits / temperature, before top-k and top-p: what completions report."""
    logits = logits.float()
    return torch.log_softmax(logits if temperature == 1 else logits / temperature, dim=-1)


def draw(logprobs: Tensor, uniform: Tensor, *, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """[B] a token a row: the cumulative distribution of logprobs [B, V], inverted at uniform [B].

    `top_k` keeps the k most likely tokens (0: all), then `top_p` the fewest of those that reach this share of their
    mass.
    """
    V = logprobs.shape[-1]
    if top_k in (0, V) and top_p >= 1:
        return _invert(logprobs.exp(), uniform)
    if 0 < top_k < V:
        ranked, tokens = logprobs.topk(top_k, dim=-1)
        probs = ranked.softmax(dim=-1)
    else:
        probs, tokens = _ranked(logprobs, top_p)
    before = probs.cumsum(-1) - probs  # the mass of the likelier tokens: the first token always stays
    return tokens.gather(-1, _invert(probs.masked_fill(before >= top_p, 0), uniform)[:, None])[:, 0]


def _ranked(logprobs: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Probabilities and tokens [B, n], the likeliest first: all, or of a large vocabulary some that reach the share.

    To sort it takes ten times as long as all else that is done to the logits.
    """
    if logprobs.shape[1] > LARGE:
        ranked, tokens = logprobs.topk(LIKELIEST, dim=-1)
        probs = ranked.exp()
        if bool((probs.sum(-1) > share).all()):
            return probs, tokens
    ranked, tokens = logprobs.sort(dim=-1, descending=True, stable=True)
    return ranked.softmax(dim=-1), tokens


def _invert(probs: Tensor, uniform: Tensor) -> Tensor:
    """[B] the first index whose cumulative mass exceeds uniform * total; one of mass 0 never does.

    In a large vocabulary it is found among blocks, then within one: adding all up one by one takes several times as
    long.
    """
    blocks = _blocks(probs) if probs.shape[1] > LARGE else None
    masses = probs if blocks is None else blocks.sum(-1, dtype=torch.float64)
    cumulative = masses.cumsum(-1, dtype=torch.float64)
    total = cumulative[:, -1]
    if not bool(total.isfinite().all()):
        raise UserError(
            "the model's logits are not finite: the policy has diverged; a lower update.learning_rate may help"
        )
    found = _first_above(cumulative, uniform * total)
    if blocks is None:
        return found
    rows = torch.arange(len(found), device=found.device)
    rest = uniform * total - pad(cumulative, (1, 0))[rows, found]
    return found * BLOCK + _first_above(blocks[rows, found].cumsum(-1, dtype=torch.float64), rest)


def _blocks(probs: Tensor) -> Tensor:
    """[B, V] -> [B, V / BLOCK, BLOCK], filled up with zeros: a copy, unless V is divided without a rest."""
    short = -probs.shape[1] % BLOCK
    return (pad(probs, (0, short)) if short else probs).view(len(probs), -1, BLOCK)


def _first_above(cumulative: Tensor, target: Tensor) -> Tensor:
    """[B] the first index where the masses added up [B, n] exceed the target [B], which may round up to all of them."""
    total = cumulative[:, -1]
    target = torch.minimum(target, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target[:, None], right=True)[:, 0]


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser, elementwise on int64 taken as 64 unsigned bits; products wrap around."""
    x = (x ^ _shift_right(x, 30)) * _int64(MIX_1)
    x = (x ^ _shift_right(x, 27)) * _int64(MIX_2)
    return x ^ _shift_right(x, 31)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift: torch's own fills up with the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _int64(x: int) -> int:
    """The int64 with the same low 64 bits."""
    return (x + 2**63) % 2**64 - 2**63
