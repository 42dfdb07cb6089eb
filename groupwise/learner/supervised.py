"""The gradient of supervised fine-tuning."""

from __future__ import annotations

import torch
from torch import nn

from groupwise.learner.forward import token_logits
from groupwise.learner.packing import NOT_LEARNED, PackedRows


def learn(model: nn.Module, rows: PackedRows, micro_rows: int, device: torch.device, dtype: torch.dtype) -> float:
    """Backward of the mean cross-entropy over all learned tokens of `rows`; returns it.

    Passing `micro_rows` rows at a time changes the memory that this takes, not the gradient.
    """
    tokens = int((rows.labels != NOT_LEARNED).sum())
    total = 0.0
    for start in range(0, len(rows.input_ids), micro_rows):
        part = rows.rows(start, start + micro_rows).to(device)
        labels = part.labels.flatten()
        where = (labels != NOT_LEARNED).nonzero()[:, 0]
        logits = token_logits(model, where, dtype, input_ids=part.input_ids, position_ids=part.position_ids)
        loss = nn.functional.cross_entropy(logits, labels[where], reduction="sum") / tokens
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return total
