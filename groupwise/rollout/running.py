"""The rows that are being generated: what each has said, which are over, and what those said when they leave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from groupwise.rollout.sampling import draw, log_probs, uniforms
from groupwise.rollout.stopping import StopStrings
from groupwise.types import Completion, Sampling

# Rows that are over leave once they are this share of the rows: leaving costs a copy of the cache.
LEAVE_SHARE = 0.25


class Row(NamedTuple):
    """What is known of each of B rows; T is the most tokens that a row may have."""

    id: Tensor  # [B]
    uniforms: Tensor  # [B, T] its random stream
    tokens: Tensor  # [B, T]
    logprobs: Tensor  # [B, T]
    age: Tensor  # [B] tokens drawn, also after the end
    ended: Tensor  # [B] at an end token or a stop string
    length: Tensor  # [B] tokens up to its end, or so far


class Running:
    """B rows, some of them over but not yet gone."""

    def __init__(
        self,
        ids: Sequence[int],
        keys: Sequence[int],
        sampling: Sampling,
        ends: Sequence[int],
        stops: StopStrings,
        device: torch.device,
    ) -> None:
        B, T = len(keys), sampling.max_tokens
        self._sampling, self._stops = sampling, stops
        self._ends = torch.tensor(ends, device=device)
        self._rows = Row(
            id=torch.tensor(ids, device=device),
            uniforms=uniforms(sampling.seed, keys, T).to(device),
            tokens=torch.zeros(B, T, dtype=torch.int64, device=device),
            logprobs=torch.zeros(B, T, device=device),
            age=torch.zeros(B, dtype=torch.int64, device=device),
            ended=torch.zeros(B, dtype=torch.bool, device=device),
            length=torch.zeros(B, dtype=torch.int64, device=device),
        )

    def __len__(self) -> int:
        return len(self._rows.id)

    @property
    def ids(self) -> list[int]:
        return [int(i) for i in self._rows.id.tolist()]

    def choose(self, logits: Tensor) -> None:
        """Draw and record the next token of each row from logits [B, V]."""
        rows, sampling, here = self._rows, self._sampling, self._rows.age[:, None]
        scores = log_probs(logits, sampling.temperature)
        uniform = rows.uniforms.gather(1, here)[:, 0]
        chosen = draw(scores, uniform, top_k=sampling.top_k, top_p=sampling.top_p)
        rows.tokens.scatter_(1, here, chosen[:, None])
        rows.logprobs.scatter_(1, here, scores.gather(1, chosen[:, None]))
        rows.age.add_(1)
        rows.length.add_(~rows.ended)
        rows.ended.logical_or_(torch.isin(chosen, self._ends))
        if self._stops.strings:
            rows.ended.logical_or_(self._at_stop_string(chosen))

    def newest(self) -> Tensor:
        """[B] the last token of each row."""
        return self._rows.tokens.gather(-1, self._rows.age[:, None] - 1)[:, 0]

    def over(self) -> Tensor | None:
        """[B] whether a row is over, or None as long as it does not pay to let them go.

        A row of T tokens goes at once: the model may have no position for another.
        """
        age, longest = self._rows.age, self._sampling.max_tokens
        over = self._rows.ended | (age == longest)
        count, oldest = torch.stack([over.sum(), age.max()]).tolist()
        return over if count >= LEAVE_SHARE * len(over) or oldest == longest else None

    def keep(self, which: Tensor) -> None:
        """Go on with the rows marked in `which` [B] only."""
        self._rows = Row(*(x[which] for x in self._rows))

    def join(self, other: Running) -> None:
        """Take in other rows, behind these."""
        self._rows = Row(*(torch.cat(pair) for pair in zip(self._rows, other._rows, strict=True)))

    def completions(self, which: Tensor, policy_version: int) -> dict[int, Completion]:
        """What the rows marked in `which` [B] said, by id."""
        rows = self._rows
        wanted = (rows.id, rows.tokens, rows.logprobs, rows.length, rows.ended)
        said = zip(*(x[which].tolist() for x in wanted), strict=True)
        return {
            i: self._completion(tokens[:length], logprobs[:length], ended, policy_version)
            for i, tokens, logprobs, length, ended in said
        }

    def _completion(self, tokens: list[int], logprobs: list[float], ended: bool, policy_version: int) -> Completion:
        said = tokens[:-1] if tokens[-1] in self._ends.tolist() else tokens  # an end token need not be a special one
        return Completion(
            token_ids=tuple(tokens),
            logprobs=tuple(logprobs),
            text=self._stops.cut(self._stops.decode(said)),
            finish_reason="stop" if ended else "length",
            policy_version=policy_version,
        )

    def _at_stop_string(self, chosen: Tensor) -> Tensor:
        """[B] rows whose newest token completes a stop string."""
        hits = [False] * len(self)
        for place, token in enumerate(chosen.tolist()):
            if self._stops.may_complete(token):
                said = self._rows.tokens[place, : int(self._rows.age[place])].tolist()
                hits[place] = self._stops.completed(said)
        return torch.tensor(hits, device=chosen.device)
