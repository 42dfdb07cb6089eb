"""Rollouts as tensors: right-padded rows, sorted by length into micro-batches of bounded size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from groupwise.types import Rollout


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """B rows: prompt, completion, padding. C is the longest completion of the rows."""

    index: list[int]  # [B] positions of the rows in the update's list of rollouts
    input_ids: torch.Tensor  # [B, T] int64; padding on the right, so that causality alone hides it
    prompt_lengths: torch.Tensor  # [B] int64
    targets: torch.Tensor  # [B, C] int64 completion tokens, 0 where padded
    mask: torch.Tensor  # [B, C] bool: a real completion token
    learned: torch.Tensor  # [B, C] bool: the mask less completions that are masked out of the loss
    engine_logprobs: torch.Tensor  # [B, C] float32
    advantages: torch.Tensor  # [B] float32

    def predictors(self) -> torch.Tensor:
        """[B, C] int64: position of the hidden state that predicts each completion token."""
        steps = torch.arange(self.targets.shape[1], device=self.targets.device)
        return (self.prompt_lengths[:, None] - 1 + steps).clamp(max=self.input_ids.shape[1] - 1)

    def pad(self, values: Sequence[torch.Tensor]) -> torch.Tensor:
        """[B, C] the batch's rows of the values [C_i] of all rollouts, 0 where padded."""
        out = torch.zeros_like(self.engine_logprobs)
        for row, index in enumerate(self.index):
            out[row, : len(values[index])] = values[index]
        return out


def micro_batches(
    rollouts: Sequence[Rollout],
    max_tokens: int,
    device: torch.device,
    *,
    chosen: Sequence[int] | None = None,
    mask_cut: bool = False,
) -> list[MicroBatch]:
    """Cut the `chosen` rollouts (default: all) into micro-batches of at most `max_tokens` padded tokens each.

    A row that is longer still is a micro-batch of its own.
    Rows are sorted by length, longest first, so little is padding and the first pass needs the most memory.
    `mask_cut` takes completions that were cut at the length limit out of the loss (DAPO's overlong filtering).
    """
    lengths = [len(r.prompt.token_ids) + len(r.completion.token_ids) for r in rollouts]
    order = sorted(range(len(rollouts)) if chosen is None else chosen, key=lambda i: (-lengths[i], i))
    batches: list[MicroBatch] = []
    start = 0
    while start < len(order):
        rows = max(1, max_tokens // max(1, lengths[order[start]]))
        batches.append(_stack(rollouts, order[start : start + rows], device, mask_cut))
        start += rows
    return batches


def learned_tokens(rollouts: Sequence[Rollout], chosen: Sequence[int], mask_cut: bool) -> torch.Tensor:
    """[B, C] bool: which tokens of the chosen rollouts' completions are learned, as in `MicroBatch.learned`."""
    completions = [rollouts[i].completion for i in chosen]
    cut = [mask_cut and c.finish_reason == "length" for c in completions]
    lengths = [0 if masked else len(c.token_ids) for c, masked in zip(completions, cut, strict=True)]
    return torch.arange(max(1, *lengths, 1)) < torch.tensor(lengths)[:, None]


def _stack(rollouts: Sequence[Rollout], index: list[int], device: torch.device, mask_cut: bool) -> MicroBatch:
    rows = [rollouts[i] for i in index]
    width = max(len(r.prompt.token_ids) + len(r.completion.token_ids) for r in rows)
    longest = max(1, *(len(r.completion.token_ids) for r in rows))
    input_ids = torch.zeros(len(rows), width, dtype=torch.long)
    targets = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    logprobs = torch.zeros(len(rows), longest)
    for b, rollout in enumerate(rows):
        prompt, completion = rollout.prompt.token_ids, rollout.completion.token_ids
        input_ids[b, : len(prompt) + len(completion)] = torch.tensor(prompt + completion)
        targets[b, : len(completion)] = torch.tensor(completion, dtype=torch.long)
        mask[b, : len(completion)] = True
        logprobs[b, : len(completion)] = torch.tensor(rollout.completion.logprobs)
    cut = torch.tensor([mask_cut and r.completion.finish_reason == "length" for r in rows])
    return MicroBatch(
        index=index,
        input_ids=input_ids.to(device),
        prompt_lengths=torch.tensor([len(r.prompt.token_ids) for r in rows], device=device),
        targets=targets.to(device),
        mask=mask.to(device),
        learned=(mask & ~cut[:, None]).to(device),
        engine_logprobs=logprobs.to(device),
        advantages=torch.tensor([r.advantage for r in rows], dtype=torch.float32, device=device),
    )
