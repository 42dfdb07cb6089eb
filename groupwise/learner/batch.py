"""Rollouts as tensors: micro-batches of bounded size, in which siblings stand together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from groupwise.learner.tree import tree_inputs
from groupwise.types import Rollout

COPIES = 8  # keys of attention for each token of a micro-batch, at most: every sibling has its own of the prompt's


class Inputs(NamedTuple):
    """What a model is given, and where its last states predict the completions' tokens."""

    given: Mapping[str, Any]
    states: torch.Tensor  # [K] int64, an index into all states; K tokens, completion by completion


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """B rows, of K completion tokens in all. C is the longest completion of the rows, or a piece of the only one."""

    index: list[int]  # [B] positions of the rows in the update's list of rollouts
    inputs: Inputs
    targets: torch.Tensor  # [B, C] int64 completion tokens, 0 where padded
    mask: torch.Tensor  # [B, C] bool: a real completion token
    learned: torch.Tensor  # [B, C] bool: the mask less completions that are masked out of the loss
    engine_logprobs: torch.Tensor  # [B, C] float32
    advantages: torch.Tensor  # [B] float32
    begin: int = 0  # of the piece in its completion

    def pad(self, values: Sequence[torch.Tensor]) -> torch.Tensor:
        """[B, C] the batch's rows of the values [C_i] of all rollouts, 0 where padded."""
        out = torch.zeros_like(self.engine_logprobs)
        for row, index in enumerate(self.index):
            own = values[index][self.begin : self.begin + out.shape[1]]
            out[row, : len(own)] = own
        return out

    def spread(self, values: torch.Tensor) -> torch.Tensor:
        """[B, C] of the values [K] of the completions' tokens, 0 where padded."""
        zeros = torch.zeros(self.mask.shape, dtype=values.dtype, device=values.device)
        return zeros.masked_scatter(self.mask, values)

    def parts(self, tokens: int, pieces: bool = False) -> Iterator[tuple[MicroBatch, slice]]:
        """Consecutive rows of at most so many completion tokens, and which of the K those are; `inputs` stay whole.

        A longer row is a part of its own or, where the loss allows `pieces` of a completion, several.
        """
        lengths = self.mask.sum(-1).tolist()
        first, start = 0, 0
        while first < len(lengths):
            last, end = first + 1, start + lengths[first]
            while last < len(lengths) and end + lengths[last] - start <= tokens:
                end += lengths[last]
                last += 1
            rows = self._rows(slice(first, last))
            if pieces and end - start > tokens:
                for at in range(start, end, tokens):
                    stop = min(at + tokens, end)
                    yield rows._piece(at - start, stop - start), slice(at, stop)
            else:
                yield rows, slice(start, end)
            first, start = last, end

    def _rows(self, rows: slice) -> MicroBatch:
        if len(self.index) <= rows.stop - rows.start:
            return self
        fields = ("index", "targets", "mask", "learned", "engine_logprobs", "advantages")
        return replace(self, **{name: getattr(self, name)[rows] for name in fields})

    def _piece(self, begin: int, end: int) -> MicroBatch:
        fields = ("targets", "mask", "learned", "engine_logprobs")
        return replace(self, begin=begin, **{name: getattr(self, name)[:, begin:end] for name in fields})


def micro_batches(
    rollouts: Sequence[Rollout],
    max_tokens: int,
    device: torch.device,
    *,
    chosen: Sequence[int] | None = None,
    mask_cut: bool = False,
    shared: bool = False,
) -> Iterator[MicroBatch]:
    """Cut the `chosen` rollouts (default: all) into micro-batches of at most `max_tokens` tokens each.

    Each is made when it is asked for, so that only one holds the masks of its attention at a time.

    `shared`: siblings share their prompt, which counts once a micro-batch, and nothing is padded; otherwise each row
    holds its own, and counts with its padding. A row that is longer than allowed is a micro-batch of its own. A prompt
    that is shared counts for half of `max_tokens` at most: siblings that do not fit beside a long one would pass one by
    one, each with the prompt once more.
    Prompts, by their longest row, and the rows of each are sorted by length, longest first, so that little is padding
    and the first pass needs the most memory.
    `mask_cut` takes completions that were cut at the length limit out of the loss (DAPO's overlong filtering).
    """
    lengths = [len(r.prompt.token_ids) + len(r.completion.token_ids) for r in rollouts]
    order = sorted(range(len(rollouts)) if chosen is None else chosen, key=lambda i: (-lengths[i], i))
    if shared:
        first: dict[tuple[int, ...], int] = {}
        for place, i in enumerate(order):
            first.setdefault(rollouts[i].prompt.token_ids, place)
        order.sort(key=lambda i: first[rollouts[i].prompt.token_ids])  # stable: rows stay sorted
    cut = _cut_shared if shared else _cut_rows
    for index in cut(rollouts, lengths, order, max_tokens):
        yield _stack(rollouts, index, device, mask_cut, shared)


def _cut_rows(
    rollouts: Sequence[Rollout], lengths: Sequence[int], order: Sequence[int], max_tokens: int
) -> Iterator[list[int]]:
    start = 0
    while start < len(order):
        rows = max(1, max_tokens // max(1, lengths[order[start]]))
        yield list(order[start : start + rows])
        start += rows


def _cut_shared(
    rollouts: Sequence[Rollout], lengths: Sequence[int], order: Sequence[int], max_tokens: int
) -> Iterator[list[int]]:
    index: list[int] = []
    prompts: set[tuple[int, ...]] = set()
    filled = _Filled(max_tokens)
    for i in order:
        prompt = rollouts[i].prompt.token_ids
        completion = lengths[i] - len(prompt)
        more = filled.with_row(len(prompt), completion, prompt not in prompts)
        if index and more.too_much:
            yield index
            index, prompts = [], set()
            more = _Filled(max_tokens).with_row(len(prompt), completion, True)
        index.append(i)
        prompts.add(prompt)
        filled = more
    if index:
        yield index


class _Filled(NamedTuple):
    """How full a micro-batch of siblings is."""

    max_tokens: int
    rows: int = 0
    counted: int = 0  # tokens; a prompt counts for half of `max_tokens` at most
    tokens: int = 0
    prompt: int = 0  # tokens of the longest
    completion: int = 0

    def with_row(self, prompt: int, completion: int, new_prompt: bool) -> _Filled:
        new = prompt if new_prompt else 0
        return self._replace(
            rows=self.rows + 1,
            counted=self.counted + completion + min(new, self.max_tokens // 2),
            tokens=self.tokens + completion + new,
            prompt=max(self.prompt, prompt),
            completion=max(self.completion, completion),
        )

    @property
    def too_much(self) -> bool:
        keys = self.rows * (self.prompt + self.completion)
        return self.counted > self.max_tokens or keys > COPIES * max(self.max_tokens, self.tokens)


def learned_tokens(rollouts: Sequence[Rollout], chosen: Sequence[int], mask_cut: bool) -> torch.Tensor:
    """[B, C] bool: which tokens of the chosen rollouts' completions are learned, as in `MicroBatch.learned`."""
    completions = [rollouts[i].completion for i in chosen]
    cut = [mask_cut and c.finish_reason == "length" for c in completions]
    lengths = [0 if masked else len(c.token_ids) for c, masked in zip(completions, cut, strict=True)]
    return torch.arange(max(1, *lengths, 1)) < torch.tensor(lengths)[:, None]


def _stack(
    rollouts: Sequence[Rollout], index: list[int], device: torch.device, mask_cut: bool, shared: bool
) -> MicroBatch:
    rows = [rollouts[i] for i in index]
    longest = max(1, *(len(r.completion.token_ids) for r in rows))
    targets = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    logprobs = torch.zeros(len(rows), longest)
    for b, rollout in enumerate(rows):
        completion = rollout.completion.token_ids
        targets[b, : len(completion)] = torch.tensor(completion, dtype=torch.long)
        mask[b, : len(completion)] = True
        logprobs[b, : len(completion)] = torch.tensor(rollout.completion.logprobs)
    cut = torch.tensor([mask_cut and r.completion.finish_reason == "length" for r in rows])
    pairs = [(r.prompt.token_ids, r.completion.token_ids) for r in rows]
    return MicroBatch(
        index=index,
        inputs=Inputs(*(tree_inputs(pairs, device) if shared else padded_inputs(pairs, device))),
        targets=targets.to(device),
        mask=mask.to(device),
        learned=(mask & ~cut[:, None]).to(device),
        engine_logprobs=logprobs.to(device),
        advantages=torch.tensor([r.advantage for r in rows], dtype=torch.float32, device=device),
    )


def padded_inputs(
    rows: Sequence[tuple[Sequence[int], Sequence[int]]], device: torch.device
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Each (prompt, completion) a row [B, T], padded on the right, so that causality alone hides the padding."""
    width = max(len(prompt) + len(completion) for prompt, completion in rows)
    input_ids = torch.zeros(len(rows), width, dtype=torch.long)
    states = []
    for b, (prompt, completion) in enumerate(rows):
        input_ids[b, : len(prompt) + len(completion)] = torch.tensor([*prompt, *completion])
        states.append(b * width + len(prompt) - 1 + torch.arange(len(completion)))
    return {"input_ids": input_ids.to(device)}, torch.cat(states).to(device)
