"""The local engine: completions from the live transformers model that the learner trains."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from groupwise.rollout.adapters import casts_kept, merged
from groupwise.rollout.encode import end_token_ids
from groupwise.rollout.grouped import GroupedDecoder
from groupwise.rollout.int8 import rounded, share
from groupwise.rollout.plain import PlainDecoder, read
from groupwise.rollout.products import Forward, instead
from groupwise.rollout.running import Running
from groupwise.rollout.stopping import StopStrings
from groupwise.rollout.thin import thin
from groupwise.rollout.trial import may_be_thin, may_share
from groupwise.rollout.waiting import Waiting
from groupwise.run.doing import doing
from groupwise.run.profile import span
from groupwise.types import Completion, Prompt, Sampling, UserError

_log = logging.getLogger(__name__)

SHARED = 2  # rows of a prompt, in the mean, from which on it pays that they share it


class LocalEngine:
    """Generates from `model` itself: there is no copy of the weights, so an update in place is seen at once.

    At most `max_batch_rows` rows (each needs the logits of a token) with `max_batch_tokens` cached tokens run at once;
    rows that are over leave, and waiting ones take their place. `compute_dtype` bfloat16 generates under autocast;
    log-probs are float32 in any case. `int8` decodes with rounded weights (a CPU's; see int8.py), and reports the
    log-probs that go with them. `grouped=False` leaves caching to transformers even where rows could share their
    prompt's keys and values; then rows wait until all of those before them are over.
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
        int8: bool = False,
    ) -> None:
        if max_batch_rows < 1 or max_batch_tokens < 1:
            raise ValueError(
                f"max_batch_rows {max_batch_rows} and max_batch_tokens {max_batch_tokens} must be positive"
            )
        self.model, self.tokenizer, self.compute_dtype = model, tokenizer, compute_dtype
        self.max_batch_rows, self.max_batch_tokens = max_batch_rows, max_batch_tokens
        self.policy_version, self._int8 = 0, int8
        self._ends = end_token_ids(model, tokenizer)
        if int8 and (part := share(model)) < 0.5:
            kind = type(model).__name__
            _log.warning("rollout.int8: only %.0f %% of the weights of %s can be rounded", 100 * part, kind)
        self._grouped, self._thin, self._tried = grouped, False, False

    def take_weights(self, tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Only note the version: the learner's tensors are this engine's own, so they are not even looked at."""
        self.policy_version = version

    def generate(self, prompts: Sequence[Prompt], keys: Sequence[int], sampling: Sampling) -> list[Completion]:
        """One completion for each prompt [N], in order. `keys` [N] select the rows' random streams."""
        self._check(prompts, keys, sampling)
        stops = StopStrings(sampling.stop, self.tokenizer)

        asked = [prompt.token_ids for prompt in prompts]
        shared = len(asked) >= SHARED * len(set(asked))

        def enter(ids: Sequence[int]) -> tuple[Running, Any]:
            rows = Running(ids, [keys[i] for i in ids], sampling, self._ends, stops, self._device)
            return rows, self._begin(rows, [asked[i] for i in ids], shared)

        done: dict[int, Completion] = {}
        with self._inference():
            grouped = bool(prompts) and self._groups()
            waiting = Waiting(
                asked,
                sampling.max_tokens,
                rows=self.max_batch_rows,
                tokens=self.max_batch_tokens,
                shared=grouped and shared,
                joining=grouped,
            )
            products = self._products()
            while waiting:
                rows, decoder = enter(waiting.take([], 0))
                while len(rows):
                    with span("decode"), instead(products):
                        while (over := rows.over()) is None:
                            rows.choose(decoder.step(rows.newest()))
                    done |= rows.completions(over, self.policy_version)
                    doing("generate", len(done), len(prompts))
                    rows.keep(~over)
                    if len(rows):
                        decoder.keep((~over).nonzero()[:, 0])
                        if entering := waiting.take(rows.ids, decoder.lines):
                            others, their_decoder = enter(entering)
                            rows.join(others)
                            decoder.join(their_decoder)
        return [done[i] for i in range(len(prompts))]

    def close(self) -> None:
        """Nothing: it has no process of its own."""

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _groups(self) -> bool:
        """Whether the grouped decoder is wanted and can do this model; tried once."""
        if not self._tried:
            shareable = may_share(self.model, self._device)
            if self._grouped and not shareable:
                _log.warning("%s attends in a way of its own: its rows share no keys", type(self.model).__name__)
            plain_cpu = self._device.type == "cpu" and self.compute_dtype is torch.float32 and not self._int8
            self._thin = plain_cpu and may_be_thin(self.model, self._device)
            self._grouped, self._tried = self._grouped and shareable, True
        return self._grouped

    def _products(self) -> list[Forward]:
        """How linear layers multiply while decoding, where not as they are."""
        if self._int8:
            return rounded(self.model)
        return thin(self.model) if self._thin else []

    def _begin(self, rows: Running, prompts: Sequence[tuple[int, ...]], shared: bool) -> GroupedDecoder | PlainDecoder:
        """Choose the first tokens of the rows, and go on from their prompts [B]; equal prompts are read once."""
        distinct = {prompt: line for line, prompt in enumerate(dict.fromkeys(prompts))}
        prompt_of_row = torch.tensor([distinct[prompt] for prompt in prompts], device=self._device)
        with span("prefill"):
            prefix = read(self.model, list(distinct), self._device)
        rows.choose(prefix.logits[prompt_of_row])
        if self._grouped:
            return GroupedDecoder(self.model, prefix, prompt_of_row, shared)
        return PlainDecoder(self.model, prefix, prompt_of_row)

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
                torch.autocast(self._device.type, self.compute_dtype if mixed else None, enabled=mixed),
                casts_kept(self.model) if mixed else merged(self.model),  # a cast would round away what adapters add
                # last: what is made in inference mode can never be learned from; in it autocast would keep no casts
                torch.no_grad() if mixed else torch.inference_mode(),
            ):
                yield
        finally:
            torch.clear_autocast_cache()
            for module in training:
                module.training = True
