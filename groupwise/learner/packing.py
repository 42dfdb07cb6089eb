"""Packing of short sequences into rows of fixed length, with a mask that keeps them apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class PackedRows:
    """R rows of T tokens. Sequences of a row cannot see each other; padding sees only itself."""

    input_ids: torch.Tensor  # [R, T] int64
    position_ids: torch.Tensor  # [R, T] int64, restarting at each sequence
    segments: torch.Tensor  # [R, T] int64: which sequence of its row a token belongs to; 0 is padding
    labels: torch.Tensor  # [R, T] int64: next token where it is learned, else -100

    def attention_mask(self) -> torch.Tensor:
        """[R, 1, T, T] bool: causal and inside the own sequence."""
        same = self.segments[:, None, :, None] == self.segments[:, None, None, :]
        return same & torch.ones(same.shape[-2:], dtype=torch.bool, device=same.device).tril()

    def to(self, device: torch.device) -> PackedRows:
        return PackedRows(*(t.to(device) for t in (self.input_ids, self.position_ids, self.segments, self.labels)))

    def rows(self, start: int, stop: int) -> PackedRows:
        return PackedRows(*(t[start:stop] for t in (self.input_ids, self.position_ids, self.segments, self.labels)))


def pack(sequences: Sequence[tuple[Sequence[int], int]], rows: int, length: int) -> tuple[PackedRows, int]:
    """First-fit packing, in order, of (token ids [T], prompt length) into `rows` rows of `length` tokens.

    Labels are the tokens after the prompt. Returns the rows and how many of the sequences were taken; the first that
    fits nowhere ends the packing, so that a stream continues where it stopped.
    """
    room = [length] * rows
    ids = torch.zeros(rows, length, dtype=torch.long)
    positions, segments = torch.zeros_like(ids), torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    count = [0] * rows
    for taken, (tokens, prompt_length) in enumerate(sequences):
        n = len(tokens)
        row = next((r for r in range(rows) if room[r] >= n), None)
        if row is None:
            return PackedRows(ids, positions, segments, labels), taken
        at = length - room[row]
        count[row] += 1
        room[row] -= n
        span = slice(at, at + n)
        ids[row, span] = torch.tensor(tokens)
        positions[row, span] = torch.arange(n)
        segments[row, span] = count[row]
        learned = torch.tensor(tokens[prompt_length:])
        labels[row, at + prompt_length - 1 : at + n - 1] = learned
    return PackedRows(ids, positions, segments, labels), len(sequences)
