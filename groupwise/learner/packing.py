"""Packing of short sequences into rows of fixed length, in which they cannot see each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from groupwise.learner.forward import token_logits
from groupwise.types import UserError

NOT_LEARNED = -100  # the label that torch's cross-entropy ignores


@dataclass(frozen=True)
class PackedRows:
    """R rows of T tokens. A model of transformers starts a sequence afresh wherever the positions do not continue."""

    input_ids: torch.Tensor  # [R, T] int64
    position_ids: torch.Tensor  # [R, T] int64, from 0 in each sequence; 0 at each token of padding
    segments: torch.Tensor  # [R, T] int64: which sequence of its row a token belongs to, from 1; 0 is padding
    labels: torch.Tensor  # [R, T] int64: the next token where it is learned, else NOT_LEARNED

    def to(self, device: torch.device) -> PackedRows:
        return PackedRows(*(t.to(device) for t in (self.input_ids, self.position_ids, self.segments, self.labels)))

    def rows(self, start: int, stop: int) -> PackedRows:
        return PackedRows(*(t[start:stop] for t in (self.input_ids, self.position_ids, self.segments, self.labels)))


def pack(sequences: Sequence[tuple[Sequence[int], int]], rows: int, length: int) -> tuple[PackedRows, int]:
    """First-fit packing, in order, of (token ids [T], prompt length) into `rows` rows of `length` tokens.

    Learned are the tokens after the prompt. Returns the rows and how many of the sequences were taken; the first that
    fits nowhere ends the packing, so that a stream continues where it stopped.
    """
    ids = torch.zeros(rows, length, dtype=torch.long)
    positions, segments = torch.zeros_like(ids), torch.zeros_like(ids)
    labels = torch.full_like(ids, NOT_LEARNED)
    used, count = [0] * rows, [0] * rows  # tokens and sequences of each row
    taken = 0
    for tokens, prompt_length in sequences:
        size = len(tokens)
        row = next((r for r in range(rows) if used[r] + size <= length), None)
        if row is None:
            break
        start, end = used[row], used[row] + size
        used[row] = end
        count[row] += 1
        taken += 1
        first = max(1, prompt_length)  # nothing in the sequence predicts its first token
        ids[row, start:end] = torch.tensor(tokens)
        positions[row, start:end] = torch.arange(size)
        segments[row, start:end] = count[row]
        labels[row, start + first - 1 : end - 1] = torch.tensor(tokens[first:])
    return PackedRows(ids, positions, segments, labels), taken


@torch.no_grad()
def check_packing(model: nn.Module) -> None:
    """Raise UserError for a model in which packed sequences do see each other, as recurrent ones let them."""
    device = next(model.parameters()).device
    last = torch.tensor([3], device=device)
    positions = torch.tensor([[0, 1, 0, 1]], device=device)

    def logits_after(first: int) -> torch.Tensor:
        ids = torch.tensor([[first, first, 1, 2]], device=device)
        return token_logits(model, last, torch.float32, input_ids=ids, position_ids=positions)

    if not torch.allclose(logits_after(1), logits_after(3), rtol=1e-4, atol=1e-6):
        kind = type(model).__name__
        raise UserError(f"model: {kind} does not keep packed sequences apart, so it cannot be fine-tuned here")
