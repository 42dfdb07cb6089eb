"""The policy update: passes over the rollouts of an update, each split into optimizer steps and micro-batches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn

from groupwise.config import LossConfig, UpdateConfig
from groupwise.learner import lora
from groupwise.learner.backoff import told, within_memory
from groupwise.learner.batch import MicroBatch, learned_tokens, micro_batches
from groupwise.learner.forward import fitted, recompute_layers
from groupwise.learner.memory import MICRO_TOKENS
from groupwise.learner.meter import Meter
from groupwise.learner.optimizer import build_optimizer, learning_rate, optimizer_step
from groupwise.loss import DEFAULT_CLIP, importance_weights, loss_denominator, mismatch, policy_loss, ratio_diagnostics
from groupwise.loss.kinds import find
from groupwise.run.doing import doing
from groupwise.run.profile import span
from groupwise.run.world import World
from groupwise.types import Rollout

T = TypeVar("T")
SHIFT_ROLLOUTS = 16


class Fixed(NamedTuple):
    """Log-probs [C_i] of each rollout's completion that stay as they are while the policy moves; None: not needed."""

    old: list[torch.Tensor] | None  # under the policy before this update
    reference: list[torch.Tensor] | None


class Learner:
    """Owns the policy's weights, the optimizer and the frozen reference; `version` counts updates.

    The reference is a copy of the model or, where only adapters are trained, the model without them. `micro_tokens` is
    the recipe's until memory runs out; then an optimizer step begins again with half of it.
    """

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
        world: World | None = None,
    ) -> None:
        self._world = world or World()
        self.model, self.version = model, 0
        self.optimizer = build_optimizer(model, update)
        copied = loss.beta > 0 and not lora.attached(model)
        self._copy = copy.deepcopy(model).eval().requires_grad_(False) if copied else None
        self.micro_tokens = update.micro_tokens or MICRO_TOKENS[device.type]
        if update.gradient_checkpointing:
            recompute_layers(model)
        self._forward = fitted(model, temperature, dtype)
        self._loss, self._update, self._steps = loss, update, steps
        self._max_tokens, self._mask_cut, self._device = max_tokens, mask_cut, device
        low, high = DEFAULT_CLIP[loss.kind]
        self._clip: dict[str, Any] = {
            "kind": loss.kind,
            "clip_low": low if loss.clip_low is None else loss.clip_low,
            "clip_high": high if loss.clip_high is None else loss.clip_high,
        }

    def update(self, rollouts: Sequence[Rollout]) -> dict[str, float]:
        """Improve the policy on these rollouts (with their advantages) and return the update's metrics."""
        rate = learning_rate(self._update, self.version, self._steps)
        if not rollouts:  # every group was discarded: nothing to learn from
            self.version += 1
            return {"loss": 0.0, "policy/grad_norm": 0.0, **self._settings(rate)}
        meter, steps = Meter(), Meter()
        parts = list(_split(len(rollouts), self._update.minibatches))
        learned = [i for part in parts for i in self._world.share(part) if self._teaches(rollouts[i])]
        fixed = self._fixed_logprobs(rollouts, learned, moves=self._update.epochs * len(parts) > 1)
        for epoch in range(self._update.epochs):
            for number, chosen in enumerate(parts):
                gradient = partial(self._gradient, rollouts, chosen, fixed, meter, epoch == number == 0)
                loss, meter = self._within_memory(gradient, rollouts)
                with span("optimizer"), told("the optimizer's state", self._advice()):
                    self._add_gradients()
                    norm = optimizer_step(self.model, self.optimizer, rate, self._update.max_grad_norm)
                steps.add({"loss": sum(self._world.gather([loss])), "policy/grad_norm": norm}, 1)
        self.version += 1
        steps.merge(self._world.gather([meter]))
        return {**steps.results(), **self._settings(rate)}

    def _add_gradients(self) -> None:
        """Sum the gradients of all processes, each of which has learned from its share."""
        if self._world.size == 1:
            return
        for weights in self.model.parameters():
            if weights.requires_grad:
                weights.grad = torch.zeros_like(weights) if weights.grad is None else weights.grad
                self._world.add([weights.grad])

    def _settings(self, rate: float) -> dict[str, float]:
        return {"policy/learning_rate": rate, "memory/micro_tokens": self.micro_tokens}

    def _within_memory(self, work: Callable[[int], T], rollouts: Sequence[Rollout]) -> T:
        """`work(micro_tokens)`, begun again with fewer while memory runs out."""
        row = max(len(r.prompt.token_ids) + len(r.completion.token_ids) for r in rollouts)
        least = 1 if self._forward.shared else row  # from where on every row stands alone
        more = [] if self._update.gradient_checkpointing else ["set update.gradient_checkpointing true"]
        advice = ["lower rollout.max_tokens", *more, *self._advice()]
        result, self.micro_tokens = within_memory(work, self.micro_tokens, least, row, advice)
        return result

    def _advice(self) -> list[str]:
        """What makes the weights and all that goes with them smaller, where it has not been done yet."""
        less = ["take a smaller model"] if lora.attached(self.model) else ["train adapters only (lora.rank 8)"]
        return less if self._copy is None else [*less, "set loss.beta 0, which needs no reference"]

    def _gradient(
        self,
        rollouts: Sequence[Rollout],
        chosen: Sequence[int],
        fixed: Fixed,
        meter: Meter,
        first: bool,
        micro_tokens: int,
    ) -> tuple[float, Meter]:
        """Accumulate this process's part of the gradient of one optimizer step, from none; its loss, and the meter."""
        self.model.zero_grad(set_to_none=True)
        meter = copy.deepcopy(meter)  # of an attempt that runs out of memory nothing is left
        mine = [i for i in self._world.share(chosen) if self._teaches(rollouts[i])]
        # the divisor counts the whole optimizer step, so micro-batches and processes add up to it exactly
        denominator = loss_denominator(self._loss.kind, learned_tokens(rollouts, chosen, self._mask_cut))
        total, learned = 0.0, 0
        for batch in self._micro_batches(rollouts, micro_tokens, mine):
            total += self._pass(batch, fixed, denominator, meter, first)
            learned += len(batch.index)
            doing("update", chosen[0] + learned, len(rollouts))
        if not mine:  # an optimizer step all the same, so that it does not hang on who was skipped
            for weights in self.model.parameters():
                weights.grad = torch.zeros_like(weights) if weights.requires_grad else None
        return total, meter

    def _pass(self, batch: MicroBatch, fixed: Fixed, denominator: float, meter: Meter, first: bool) -> float:
        """Forward and backward; returns the loss."""
        with span("forward"):
            states = self._forward.states(batch.inputs)
        # the head and the loss go forth and back part by part, the rest of the model then once for all of them
        leaf, loss = states.detach().requires_grad_(states.requires_grad), 0.0
        for part, tokens in batch.parts(self._forward.slice, pieces=find(self._loss.kind).unit == "tokens"):
            loss += self._learn(part, leaf[tokens], fixed, denominator, meter, first)
        with span("backward"):
            if leaf.grad is not None:
                states.backward(leaf.grad)  # type: ignore[no-untyped-call]
        return loss

    def _learn(
        self, batch: MicroBatch, states: torch.Tensor, fixed: Fixed, denominator: float, meter: Meter, first: bool
    ) -> float:
        """Backward from the loss of some rows to their states; returns it."""
        with span("forward"):
            found = self._forward.logprobs(states, batch.targets[batch.mask])
            logprobs, entropy = (batch.spread(values) for values in found)
            old_logprobs, weights = batch.engine_logprobs, None
            if self._loss.old == "learner":
                old_logprobs = logprobs.detach() if fixed.old is None else batch.pad(fixed.old)
                weights = importance_weights(old_logprobs, batch.engine_logprobs, batch.mask, self._loss.importance_cap)
            ref_logprobs = None if fixed.reference is None else batch.pad(fixed.reference)
            loss = policy_loss(
                logprobs,
                old_logprobs,
                batch.advantages,
                batch.learned,
                **self._clip,
                ref_logprobs=ref_logprobs,
                beta=0.0 if ref_logprobs is None else self._loss.beta,
                kl=self._loss.kl,
                max_length=self._max_tokens,
                denominator=denominator,
                weights=weights,
            )
        with span("backward"):
            loss.backward()  # type: ignore[no-untyped-call]
        self._measure(meter, batch, logprobs.detach(), old_logprobs, ref_logprobs, entropy, first)
        return float(loss.detach())

    def _teaches(self, rollout: Rollout) -> bool:
        """Whether the rollout can have a gradient: with an advantage of 0 only the divergence from a reference has."""
        cut = self._mask_cut and rollout.completion.finish_reason == "length"
        return not cut and bool(rollout.completion.token_ids) and (rollout.advantage != 0 or self._loss_has_kl)

    @property
    def _loss_has_kl(self) -> bool:
        return self._loss.beta > 0 and self._loss.kl != "k1"

    def _micro_batches(
        self, rollouts: Sequence[Rollout], micro_tokens: int, chosen: Sequence[int]
    ) -> Iterable[MicroBatch]:
        shared, cut = self._forward.shared, self._mask_cut
        return micro_batches(rollouts, micro_tokens, self._device, chosen=chosen, mask_cut=cut, shared=shared)

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
        clip = ratio_diagnostics(logprobs, old_logprobs, batch.advantages, batch.learned, **self._clip)
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
        mine = self._world.share(range(len(rollouts)))
        frozen = self._reference_logprobs(rollouts, mine)
        return self._world.gather([sum(rollouts[i].completion.logprobs) - float(frozen[i].sum()) for i in mine])

    def shift(self, rollouts: Sequence[Rollout]) -> float:
        """How far the last update moved the policy: mean |change of log-prob| a token of a few of these rollouts."""
        few = rollouts[:: max(1, len(rollouts) // SHIFT_ROLLOUTS)]
        after = self._logprobs(self.model, few, range(len(few)))
        change = [
            (new - torch.tensor(r.completion.logprobs, device=new.device)) for new, r in zip(after, few, strict=True)
        ]
        return float(torch.cat(change).abs().mean()) if change else 0.0

    def _fixed_logprobs(self, rollouts: Sequence[Rollout], chosen: Sequence[int], moves: bool) -> Fixed:
        """`moves`: the policy changes within the update; in its first step the old log-probs are those of the step."""
        return Fixed(
            old=self._logprobs(self.model, rollouts, chosen) if self._loss.old == "learner" and moves else None,
            reference=self._reference_logprobs(rollouts, chosen) if self._loss_has_kl else None,
        )

    def _reference_logprobs(self, rollouts: Sequence[Rollout], chosen: Sequence[int]) -> list[torch.Tensor]:
        if self._copy is not None:
            return self._logprobs(self._copy, rollouts, chosen)
        with lora.switched_off(self.model) as base:
            return self._logprobs(base, rollouts, chosen)

    @torch.no_grad()
    def _logprobs(self, model: nn.Module, rollouts: Sequence[Rollout], chosen: Sequence[int]) -> list[torch.Tensor]:
        """Log-probs of the chosen completions [C_i] under `model`, without gradient; those of the others are empty."""
        forward = replace(self._forward, model=model)

        def compute(micro_tokens: int) -> list[torch.Tensor]:
            out: list[torch.Tensor] = [torch.empty(0)] * len(rollouts)
            for batch in self._micro_batches(rollouts, micro_tokens, chosen):
                logprobs, _ = forward.completions(batch)
                for row, index in enumerate(batch.index):
                    out[index] = logprobs[row, : len(rollouts[index].completion.token_ids)]
            return out

        with span("log-probs"):
            return self._within_memory(compute, rollouts)

    def weights(self) -> Iterable[tuple[str, torch.Tensor]]:
        """The policy's named tensors, for the engine; adapters are merged in."""
        return lora.merged_weights(self.model)

    def state(self) -> dict[str, Any]:
        """Of the model only what is trained: adapters, or all of it."""
        frozen = {n for n, p in self.model.named_parameters(remove_duplicate=False) if not p.requires_grad}
        return {
            "model": {name: tensor for name, tensor in self.model.state_dict().items() if name not in frozen},
            "optimizer": self.optimizer.state_dict(),
            "version": self.version,
            "micro_tokens": self.micro_tokens,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict({**self.model.state_dict(), **state["model"]})
        self.optimizer.load_state_dict(state["optimizer"])
        self.version, self.micro_tokens = state["version"], state["micro_tokens"]


def _split(count: int, parts: int) -> list[range]:
    """Contiguous, nearly equal ranges; groups of siblings stay together where sizes allow."""
    edges = [round(i * count / parts) for i in range(parts + 1)]
    return [range(a, b) for a, b in pairwise(edges) if b > a]
