"""The gradient of supervised fine-tuning."""

from __future__ import annotations

import torch
from torch import nn

from groupwise.learner.batch import Inputs
from groupwise.learner.forward import Forward
from groupwise.learner.packing import NOT_LEARNED, PackedRows


def learn(forward: Forward, rows: PackedRows, micro_rows: int, device: torch.device) -> float:
    """Backward of the mean cross-entropy over all learned tokens of `rows`; returns it.

    Passing `micro_rows` rows at a time changes the memory that this takes, not the gradient. The output head goes forth
    and back in slices, so the logits of all tokens never exist, and then the rest of the model once.
    """
    tokens = int((rows.labels != NOT_LEARNED).sum())
    total = 0.0
    for start in range(0, len(rows.input_ids), micro_rows):
        part = rows.rows(start, start + micro_rows).to(device)
        labels = part.labels.flatten()
        where = (labels != NOT_LEARNED).nonzero()[:, 0]
        states = forward.states(Inputs({"input_ids": part.input_ids, "position_ids": part.position_ids}, where))
        leaf = states.detach().requires_grad_()
        for first in range(0, len(where), forward.slice):
            chosen = slice(first, first + forward.slice)
            answers = labels[where[chosen]]
            loss = nn.functional.cross_entropy(forward.logits(leaf[chosen]).float(), answers, reduction="sum") / tokens
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        if leaf.grad is not None:
            states.backward(leaf.grad)  # type: ignore[no-untyped-call]
    return total
