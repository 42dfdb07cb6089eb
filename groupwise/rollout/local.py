"""The local engine: completions from the live transformers model that the learner trains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from groupwise.rollout.encode import end_token_ids
from groupwise.rollout.grouped import GroupedDecoder, supports
from groupwise.rollout.plain import PlainDecoder, Prefix, read
from groupwise.rollout.stopping import StopStrings
from groupwise.rollout.wave import Wave
from groupwise.types import Completion, Prompt, Sampling, UserError


class LocalEngine:
    """Generates from `model` itself: there is no copy of the weights, so an update in place is seen at once.

    Rows are generated in waves of at most `max_batch_rows` rows and `max_batch_tokens` cached tokens, longest prompts
    first. `compute_dtype` bfloat16 generates under autocast; log-probs are float32 in any case. `grouped=False` leaves
    caching to transformers even where rows could share their prompt's keys and values.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        compute_dtype: torch.dtype = torch.float32,
        max_batch_rows: int = 256,
        max_batch_tokens: int = 1 << 16,
        grouped: bool = True,
    ) -> None:
        if max_batch_rows < 1 or max_batch_tokens < 1:
            raise ValueError(
                f"max_batch_rows {max_batch_rows} and max_batch_tokens {max_batch_tokens} must be positive"
            )
        self.model, self.tokenizer, self.compute_dtype = model, tokenizer, compute_dtype
        self.max_batch_rows, self.max_batch_tokens = max_batch_rows, max_batch_tokens
        self.policy_version = 0
        self._ends = end_token_ids(model, tokenizer)
        self._grouped = None if grouped else False  # None: not tried yet

    def take_weights(self, tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Only note the version: the learner's tensors are this engine's own, so they are not even looked at."""
        self.policy_version = version

    def generate(self, prompts: Sequence[Prompt], keys: Sequence[int], sampling: Sampling) -> list[Completion]:
        """One completion for each prompt [N], in order. Equal prompts are read once; `keys` [N] select the streams."""
        self._check(prompts, keys, sampling)
        stops = StopStrings(sampling.stop, self.tokenizer)
        done: dict[int, Completion] = {}
        with self._inference():
            for rows in self._waves(prompts, sampling):
                wave = Wave([keys[i] for i in rows], sampling, self._ends, stops, self._device)
                self._run(wave, [prompts[i].token_ids for i in rows])
                done.update(zip(rows, wave.completions(self.policy_version), strict=True))
        return [done[i] for i in range(len(prompts))]

    def close(self) -> None:
        """Nothing: it has no process of its own."""

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _run(self, wave: Wave, prompts: Sequence[tuple[int, ...]]) -> None:
        distinct = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
        prompt_of_row = torch.tensor([distinct[prompt] for prompt in prompts], device=self._device)
        prefix = read(self.model, list(distinct), self._device)
        decoder = self._decoder(prefix)(self.model, prefix, prompt_of_row)
        logits = prefix.logits[prompt_of_row]
        while wave.choose(logits):
            if (stay := wave.leave()) is not None:
                decoder.keep(stay)
            logits = decoder.step(wave.last())

    def _decoder(self, prefix: Prefix) -> type[GroupedDecoder | PlainDecoder]:
        if self._grouped is None:
            self._grouped = supports(self.model, prefix)
        return GroupedDecoder if self._grouped else PlainDecoder

    def _waves(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[list[int]]:
        """Row indices, longest prompts first and equal prompts together, cut where the budget is full."""
        order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i].token_ids), prompts[i].token_ids, i))
        while order:
            width = len(prompts[order[0]].token_ids) + sampling.max_tokens
            size = max(1, min(self.max_batch_rows, self.max_batch_tokens // width))
            yield order[:size]
            order = order[size:]

    def _check(self, prompts: Sequence[Prompt], keys: Sequence[int], sampling: Sampling) -> None:
        if len(keys) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts, but {len(keys)} keys")
        if sampling.max_tokens < 1 or sampling.temperature <= 0 or sampling.top_k < 0 or not 0 < sampling.top_p <= 1:
            raise ValueError(f"max_tokens and temperature must be positive, top_k >= 0, top_p in (0, 1]: {sampling}")
        if empty := [prompt.id for prompt in prompts if not prompt.token_ids]:
            raise ValueError(f"prompt {empty[0]!r} has no token_ids: encode it first")
        config: Any = self.model.config
        limit = getattr(config.get_text_config(), "max_position_embeddings", None)
        longest = max((len(prompt.token_ids) for prompt in prompts), default=0)
        if limit is not None and prompts and longest + sampling.max_tokens > limit:
            raise UserError(
                f"the longest prompt has {longest} tokens and max_tokens is {sampling.max_tokens}: together more than "
                f"the {limit} positions of the model"
            )

    @contextmanager
    def _inference(self) -> Iterator[None]:
        """Evaluation mode, no graph, the compute type; the training flags come back afterwards."""
        training = [module for module in self.model.modules() if module.training]
        mixed = self.compute_dtype is not torch.float32
        self.model.eval()
        try:
            # inside a caller's autocast, weights cast earlier or here would outlive their updates
            torch.clear_autocast_cache()
            with (
                torch.no_grad(),
                torch.autocast(self._device.type, self.compute_dtype if mixed else None, enabled=mixed),
            ):
                yield
        finally:
            torch.clear_autocast_cache()
            for module in training:
                module.training = True
