"""The rows of a batch from the first token to the last: what was chosen, who is over, who is still in the batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from groupwise.rollout.sampling import draw, log_probs, uniforms
from groupwise.rollout.stopping import StopStrings
from groupwise.types import Completion, Sampling

COMPACT_SHARE = (
    0.25  # rows that are over leave once they are this share of the batch: leaving costs a copy of the cache
)


class Wave:
    """N rows, of which B are still in the batch (some of them over, but not yet gone)."""

    def __init__(
        self, keys: Sequence[int], sampling: Sampling, ends: Sequence[int], stops: StopStrings, device: torch.device
    ) -> None:
        N, T = len(keys), sampling.max_tokens
        self._sampling, self._stops = sampling, stops
        self._ends = torch.tensor(ends, device=device)
        self._uniforms = uniforms(sampling.seed, keys, T).to(device)
        self._tokens = torch.zeros(N, T, dtype=torch.int64, device=device)
        self._logprobs = torch.zeros(N, T, device=device)
        self._lengths = torch.full((N,), T, device=device)
        self._over = torch.zeros(N, dtype=torch.bool, device=device)
        self._inside = torch.arange(N, device=device)  # [B]
        self._step = 0

    def choose(self, logits: Tensor) -> bool:
        """Draw and record the next token of each row from logits [B, V]; whether there is more to generate."""
        sampling, rows, t = self._sampling, self._inside, self._step
        scores = log_probs(logits, sampling.temperature)
        chosen = draw(scores, self._uniforms[rows, t], top_k=sampling.top_k, top_p=sampling.top_p)
        self._tokens[rows, t] = chosen
        self._logprobs[rows, t] = scores.gather(-1, chosen[:, None])[:, 0]
        self._step += 1
        ended = (torch.isin(chosen, self._ends) | self._at_stop_string(chosen)) & ~self._over[rows]
        self._lengths[rows[ended]] = self._step
        self._over[rows[ended]] = True
        return self._step < sampling.max_tokens and not bool(self._over[rows].all())

    def last(self) -> Tensor:
        """[B] the newest token of each row."""
        return self._tokens[self._inside, self._step - 1]

    def leave(self) -> Tensor | None:
        """Let the rows that are over go, where it pays: the places in the batch of those that stay, or None."""
        over = self._over[self._inside]
        if int(over.sum()) < COMPACT_SHARE * len(over):
            return None
        stay = (~over).nonzero()[:, 0]
        self._inside = self._inside[stay]
        return stay

    def completions(self, policy_version: int) -> list[Completion]:
        """What the N rows said."""
        rows = zip(
            self._tokens.tolist(), self._logprobs.tolist(), self._lengths.tolist(), self._over.tolist(), strict=True
        )
        return [
            self._completion(tokens[:length], logprobs[:length], over, policy_version)
            for tokens, logprobs, length, over in rows
        ]

    def _completion(self, tokens: list[int], logprobs: list[float], over: bool, policy_version: int) -> Completion:
        said = tokens[:-1] if tokens[-1] in self._ends.tolist() else tokens  # an end token need not be a special one
        return Completion(
            token_ids=tuple(tokens),
            logprobs=tuple(logprobs),
            text=self._stops.cut(self._stops.decode(said)),
            finish_reason="stop" if over else "length",
            policy_version=policy_version,
        )

    def _at_stop_string(self, chosen: Tensor) -> Tensor:
        """[B] rows whose newest token completes a stop string."""
        hits = torch.zeros_like(chosen, dtype=torch.bool)
        if self._stops.strings:
            for place, token in enumerate(chosen.tolist()):
                if self._stops.may_complete(token):
                    said = self._tokens[self._inside[place], : self._step].tolist()
                    hits[place] = self._stops.completed(said)
        return hits
