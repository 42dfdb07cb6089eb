"""The policy update: passes over the rollouts of an update, each split into optimizer steps and micro-batches."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import nn

from groupwise.config import LossConfig, UpdateConfig
from groupwise.learner.batch import MicroBatch, micro_batches
from groupwise.learner.forward import completion_logprobs
from groupwise.learner.optimizer import build_optimizer, learning_rate, optimizer_step
from groupwise.loss import DEFAULT_CLIP, importance_weights, loss_denominator, mismatch, policy_loss, ratio_diagnostics
from groupwise.types import Rollout


class Fixed(NamedTuple):
    """Log-probs [C_i] of each rollout's completion that stay as they are while the policy moves; None: not needed."""

    old: list[torch.Tensor] | None  # under the policy before this update
    reference: list[torch.Tensor] | None


class Learner:
    """Owns the policy's weights, the optimizer and the frozen reference; `version` counts updates."""

    def __init__(
        self,
        model: nn.Module,
        *,
        loss: LossConfig,
        update: UpdateConfig,
        steps: int,
        temperature: float,
        max_tokens: int,
        mask_cut: bool,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.model, self.version = model, 0
        self.optimizer = build_optimizer(model, update)
        self._reference = copy.deepcopy(model).eval().requires_grad_(False) if loss.beta > 0 else None
        self._loss, self._update, self._steps = loss, update, steps
        self._temperature, self._max_tokens, self._mask_cut = temperature, max_tokens, mask_cut
        self._device, self._dtype = device, dtype
        low, high = DEFAULT_CLIP[loss.kind]
        self._clip_low = low if loss.clip_low is None else loss.clip_low
        self._clip_high = high if loss.clip_high is None else loss.clip_high

    def update(self, rollouts: Sequence[Rollout]) -> dict[str, float]:
        """Improve the policy on these rollouts (with their advantages) and return the update's metrics."""
        rate = learning_rate(self._update, self.version, self._steps)
        if not rollouts:  # every group was discarded: nothing to learn from
            self.version += 1
            return {"loss": 0.0, "policy/grad_norm": 0.0, "policy/learning_rate": rate}
        meter = Meter()
        fixed = self._fixed_logprobs(rollouts)
        for epoch in range(self._update.epochs):
            for part, chosen in enumerate(_split(len(rollouts), self._update.minibatches)):
                batches = micro_batches(
                    rollouts, self._update.micro_tokens, self._device, chosen=chosen, mask_cut=self._mask_cut
                )
                loss = self._backward(batches, fixed, meter, first=epoch == part == 0)
                norm = optimizer_step(self.model, self.optimizer, rate, self._update.max_grad_norm)
                meter.add({"loss": loss, "policy/grad_norm": norm}, 1)
        self.version += 1
        return {**meter.means(), "policy/learning_rate": rate}

    def _backward(self, batches: Sequence[MicroBatch], fixed: Fixed, meter: Meter, first: bool) -> float:
        """Accumulate the gradient of one optimizer step; returns its loss."""
        # the divisor counts the whole optimizer step, so micro-batches add up to it exactly
        denominator = sum(loss_denominator(self._loss.kind, b.learned) for b in batches)
        total = 0.0
        for batch in batches:
            logprobs, entropy = completion_logprobs(self.model, batch, self._temperature, self._dtype)
            old_logprobs, weights = batch.engine_logprobs, None
            if fixed.old is not None:
                old_logprobs, cap = batch.pad(fixed.old), self._loss.importance_cap
                weights = importance_weights(old_logprobs, batch.engine_logprobs, batch.mask, cap)
            ref_logprobs = None if fixed.reference is None else batch.pad(fixed.reference)
            loss = policy_loss(
                logprobs,
                old_logprobs,
                batch.advantages,
                batch.learned,
                kind=self._loss.kind,
                clip_low=self._clip_low,
                clip_high=self._clip_high,
                ref_logprobs=ref_logprobs,
                beta=0.0 if ref_logprobs is None else self._loss.beta,
                kl=self._loss.kl,
                max_length=self._max_tokens,
                denominator=denominator,
                weights=weights,
            )
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
            self._measure(meter, batch, logprobs.detach(), old_logprobs, ref_logprobs, entropy, first)
        return total

    def _measure(
        self,
        meter: Meter,
        batch: MicroBatch,
        logprobs: torch.Tensor,
        old_logprobs: torch.Tensor,
        ref_logprobs: torch.Tensor | None,
        entropy: torch.Tensor,
        first: bool,
    ) -> None:
        tokens = int(batch.mask.sum())
        meter.add({"policy/entropy": float(entropy.sum()) / max(1, tokens)}, tokens)
        clip = ratio_diagnostics(
            logprobs,
            old_logprobs,
            batch.advantages,
            batch.learned,
            kind=self._loss.kind,
            clip_low=self._clip_low,
            clip_high=self._clip_high,
        )
        meter.add({"policy/clip_fraction": float(clip["clip_fraction"])}, int(batch.learned.sum()))
        meter.largest("policy/ratio_max", float(clip["ratio_max"]))
        if first:  # the weights still are those that generated, so any difference is the engine's
            apart = mismatch(logprobs, batch.engine_logprobs, batch.mask)
            meter.add({"policy/mismatch": float(apart["abs"])}, tokens)
        if ref_logprobs is not None:
            k1 = ((logprobs - ref_logprobs) * batch.mask).sum() / max(1, tokens)
            meter.add({"policy/kl": float(k1)}, tokens)

    def reference_kl(self, rollouts: Sequence[Rollout]) -> list[float]:
        """Summed k1 estimate log(pi_old / pi_ref) of each completion [N], in nats, for the penalty in the reward."""
        assert self._reference is not None, "a reference is kept where loss.beta > 0"
        frozen = self._logprobs(self._reference, rollouts)
        return [
            sum(rollout.completion.logprobs) - float(ref.sum()) for rollout, ref in zip(rollouts, frozen, strict=True)
        ]

    def _fixed_logprobs(self, rollouts: Sequence[Rollout]) -> Fixed:
        in_loss = self._reference is not None and self._loss.kl != "k1"
        return Fixed(
            old=self._logprobs(self.model, rollouts) if self._loss.old == "learner" else None,
            reference=self._logprobs(self._reference, rollouts) if self._reference is not None and in_loss else None,
        )

    @torch.no_grad()
    def _logprobs(self, model: nn.Module, rollouts: Sequence[Rollout]) -> list[torch.Tensor]:
        """Log-probs of each completion [C_i] under `model`, without gradient, in the order of `rollouts`."""
        out: list[torch.Tensor] = [torch.empty(0)] * len(rollouts)
        for batch in micro_batches(rollouts, self._update.micro_tokens, self._device):
            logprobs, _ = completion_logprobs(model, batch, self._temperature, self._dtype)
            for row, index in enumerate(batch.index):
                out[index] = logprobs[row, : len(rollouts[index].completion.token_ids)]
        return out

    def weights(self) -> Iterable[tuple[str, torch.Tensor]]:
        """The policy's named tensors, for the engine."""
        return self.model.named_parameters()

    def state(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "version": self.version}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.version = state["version"]


class Meter:
    """Weighted means and maxima over the micro-batches of an update."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._weights: dict[str, float] = defaultdict(float)

    def add(self, values: Mapping[str, float], weight: float) -> None:
        for name, value in values.items():
            self._sums[name] += value * weight
            self._weights[name] += weight

    def largest(self, name: str, value: float) -> None:
        self._sums[name] = max(self._sums.get(name, value), value)
        self._weights[name] = 1.0

    def means(self) -> dict[str, float]:
        return {name: total / (self._weights[name] or 1.0) for name, total in self._sums.items()}


def _split(count: int, parts: int) -> list[range]:
    """Contiguous, nearly equal ranges; groups of siblings stay together where sizes allow."""
    edges = [round(i * count / parts) for i in range(parts + 1)]
    return [range(a, b) for a, b in pairwise(edges) if b > a]
