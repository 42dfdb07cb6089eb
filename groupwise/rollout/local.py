"""The local engine: completions from the live transformers model that the learner trains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from groupwise.rollout.encode import end_token_ids
from groupwise.rollout import grouped
from groupwise.rollout.plain import PlainDecoder, read
from groupwise.rollout.sampling import draw, log_probs, uniforms
from groupwise.rollout.stopping import StopStrings
from groupwise.types import Completion, Prompt, Sampling, UserError

COMPACT_SHARE = 0.25  # finished rows leave when they are at least this share of the batch


class LocalEngine:
    """Generates from `model` itself: no copy of the weights, so an update in place is seen at once.

    Rows are generated in waves of at most `max_batch_rows` rows and `max_batch_tokens` cached tokens, longest prompts
    together. `compute_dtype` torch.bfloat16 generates under autocast; log-probs are always float32.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        max_batch_rows: int = 256,
        max_batch_tokens: int = 1 << 18,
        compute_dtype: torch.dtype | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.max_batch_rows = max_batch_rows
        self.max_batch_tokens = max_batch_tokens
        self.compute_dtype = compute_dtype
        self.policy_version = 0
        self.grouped = True
        self._ends = end_token_ids(model, tokenizer)

    def take_weights(self, tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Record the version: engine and learner share the module, so the tensors are there already (and are not read)."""
        self.policy_version = version

    def generate(self, prompts: Sequence[Prompt], keys: Sequence[int], sampling: Sampling) -> list[Completion]:
        """One completion for each prompt [N], in order. Equal prompts are read once. `keys` [N] select the random streams."""
        self._check(prompts, keys, sampling)
        done: dict[int, Completion] = {}
        with self._inference():
            for rows in self._waves(prompts, sampling):
                wave = [prompts[i].token_ids for i in rows]
                done.update(zip(rows, self._wave(wave, [keys[i] for i in rows], sampling), strict=True))
        return [done[i] for i in range(len(prompts))]

    def _check(self, prompts: Sequence[Prompt], keys: Sequence[int], sampling: Sampling) -> None:
        if len(keys) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts, but {len(keys)} keys")
        if sampling.max_tokens < 1 or sampling.temperature <= 0:
            raise ValueError(f"max_tokens and temperature must be positive: {sampling}")
        if empty := [prompt.id for prompt in prompts if not prompt.token_ids]:
            raise ValueError(f"prompt {empty[0]!r} has no token_ids: encode it first")
        limit = getattr(_text_config(self.model), "max_position_embeddings", None)
        longest = max((len(prompt.token_ids) for prompt in prompts), default=0)
        if limit is not None and prompts and longest + sampling.max_tokens > limit:
            raise UserError(
                f"a prompt of {longest} tokens and max_tokens {sampling.max_tokens} need {longest + sampling.max_tokens} "
                f"positions, but the model has {limit} (max_position_embeddings)"
            )

    def _waves(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[list[int]]:
        """Row indices, longest prompts first and equal prompts together, cut where the budget is full."""
        order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i].token_ids), prompts[i].token_ids, i))
        while order:
            width = len(prompts[order[0]].token_ids) + sampling.max_tokens
            size = max(1, min(self.max_batch_rows, self.max_batch_tokens // width))
            yield order[:size]
            order = order[size:]

    def _wave(self, prompts: list[tuple[int, ...]], keys: list[int], sampling: Sampling) -> list[Completion]:
        device = next(self.model.parameters()).device
        distinct = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
        stops = StopStrings(sampling.stop, self.tokenizer)
        randoms = uniforms(sampling.seed, keys, sampling.max_tokens).to(device)
        tokens = torch.zeros(len(prompts), sampling.max_tokens, dtype=torch.int64, device=device)
        logprobs = torch.zeros(len(prompts), sampling.max_tokens, device=device)
        lengths = torch.full((len(prompts),), sampling.max_tokens, device=device)
        stopped = torch.zeros(len(prompts), dtype=torch.bool, device=device)
        ends = torch.tensor(self._ends, device=device)

        alive = torch.arange(len(prompts), device=device)  # [B] the rows still in the batch
        prompt_of_row = torch.tensor([distinct[prompt] for prompt in prompts], device=device)
        prefix = read(self.model, list(distinct), device)
        kind = grouped.GroupedDecoder if self.grouped and grouped.supports(self.model, prefix) else PlainDecoder
        decoder = kind(self.model, prefix, prompt_of_row)
        logits = prefix.logits[prompt_of_row]
        for t in range(sampling.max_tokens):
            every = log_probs(logits, sampling.temperature)
            chosen = draw(every, randoms[alive, t], top_k=sampling.top_k, top_p=sampling.top_p)
            tokens[alive, t] = chosen
            logprobs[alive, t] = every.gather(-1, chosen[:, None])[:, 0]
            over = torch.isin(chosen, ends) & ~stopped[alive]
            if stops.stop:
                hits = [stops.hit(row) for row in tokens[alive, : t + 1].tolist()]
                over |= torch.tensor(hits, device=device) & ~stopped[alive]
            lengths[alive[over]] = t + 1
            stopped[alive[over]] = True
            gone = stopped[alive]
            if gone.all() or t + 1 == sampling.max_tokens:
                break
            if int(gone.sum()) >= COMPACT_SHARE * len(alive):
                kept = (~gone).nonzero()[:, 0]
                decoder.keep(kept)
                alive, chosen = alive[kept], chosen[kept]
            logits = decoder.step(chosen)

        return [
            self._completion(row[:n], scores[:n], stop, stops)
            for row, scores, n, stop in zip(
                tokens.tolist(), logprobs.tolist(), lengths.tolist(), stopped.tolist(), strict=True
            )
        ]

    def _completion(self, tokens: list[int], logprobs: list[float], stopped: bool, stops: StopStrings) -> Completion:
        said = tokens[:-1] if tokens[-1] in self._ends else tokens  # an end token need not be a special one
        return Completion(
            token_ids=tuple(tokens),
            logprobs=tuple(logprobs),
            text=stops.cut(stops.decode(said)),
            finish_reason="stop" if stopped else "length",
            policy_version=self.policy_version,
        )

    @contextmanager
    def _inference(self) -> Iterator[None]:
        """Evaluation mode, no graph, the compute dtype; the training flags come back afterwards."""
        training = [module for module in self.model.modules() if module.training]
        self.model.eval()
        device = next(self.model.parameters()).device.type
        mixed = self.compute_dtype not in (None, torch.float32)
        try:
            with torch.no_grad(), torch.autocast(device, self.compute_dtype if mixed else None, enabled=mixed):
                yield
        finally:
            for module in training:
                module.training = True


def _text_config(model: nn.Module) -> Any:
    config: Any = model.config
    return config.get_text_config() if hasattr(config, "get_text_config") else config
