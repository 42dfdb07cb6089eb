"""Random rollouts, and the naive forms of what the learner computes: one sequence at a time, no padding, no batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import torch
from torch import Tensor, nn

from groupwise.config import LossConfig, UpdateConfig
from groupwise.learner.update import Learner
from groupwise.loss import DEFAULT_CLIP, policy_loss
from groupwise.types import Completion, Prompt, Rollout

CPU = torch.device("cpu")
KINDS = tuple(DEFAULT_CLIP)
MAX_TOKENS = 9  # of a completion
VOCABULARY = 96


def rollout(prompt: Sequence[int], completion: Sequence[int], advantage: float = 1.0, cut: bool = False) -> Rollout:
    """Its engine log-probs are those of a uniform policy."""
    return Rollout(
        prompt=Prompt(id="p", task="t", domain="d", text="", token_ids=tuple(prompt)),
        completion=Completion(
            token_ids=tuple(completion),
            logprobs=(-4.5,) * len(completion),
            text="",
            finish_reason="length" if cut else "stop",
            policy_version=0,
        ),
        advantage=advantage,
    )


def random_rollouts(seed: int, count: int = 6) -> list[Rollout]:
    """Ragged prompts and completions, some cut at the limit; the third completion is empty."""
    rng = Random(seed)
    made = []
    for i in range(count):
        length = 0 if i == 2 else rng.randint(1, MAX_TOKENS)
        tokens = [rng.randrange(VOCABULARY) for _ in range(rng.randint(1, 12) + length)]
        split = len(tokens) - length
        made.append(rollout(tokens[:split], tokens[split:], rng.gauss(0, 1), cut=length == MAX_TOKENS or i == 4))
    return made


def with_logprobs(rollouts: Sequence[Rollout], logprobs: Sequence[Tensor]) -> list[Rollout]:
    """The same rollouts, as if the engine had given them these log-probs [C_i]."""
    return [
        replace(r, completion=replace(r.completion, logprobs=tuple(values.tolist())))
        for r, values in zip(rollouts, logprobs, strict=True)
    ]


def on_policy(model: nn.Module, rollouts: Sequence[Rollout], temperature: float = 1.0) -> list[Rollout]:
    with torch.no_grad():
        return with_logprobs(rollouts, [naive_logprobs(model, r, temperature) for r in rollouts])


def off_policy(model: nn.Module, rollouts: Sequence[Rollout], seed: int = 0, spread: float = 0.3) -> list[Rollout]:
    """Engine log-probs that differ from the model's by about `spread`."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        return with_logprobs(
            rollouts,
            [(lp := naive_logprobs(model, r)) + spread * torch.randn(lp.shape, generator=generator) for r in rollouts],
        )


def naive_scores(model: nn.Module, rollout: Rollout, temperature: float = 1.0) -> Tensor:
    """Log-softmax [C, V] at the states that predict the completion's tokens."""
    ids = [*rollout.prompt.token_ids, *rollout.completion.token_ids]
    logits = model(input_ids=torch.tensor([ids])).logits[0].float()
    return torch.log_softmax(logits / temperature, dim=-1)[len(rollout.prompt.token_ids) - 1 : len(ids) - 1]


def naive_logprobs(model: nn.Module, rollout: Rollout, temperature: float = 1.0) -> Tensor:
    """[C] of the completion's tokens."""
    scores = naive_scores(model, rollout, temperature)
    return torch.stack([scores[t, token] for t, token in enumerate(rollout.completion.token_ids)] or [scores.sum()])[
        : len(rollout.completion.token_ids)
    ]


def padded(rows: Sequence[Tensor]) -> Tensor:
    return nn.utils.rnn.pad_sequence(list(rows), batch_first=True)


def make_learner(model: nn.Module, *, steps: int = 10, temperature: float = 1.0, **changes: Any) -> Learner:
    """Keys of loss and update by their own names; `mask_cut`. The gradient is not clipped unless asked for."""
    loss = {key: changes.pop(key) for key in list(changes) if key in LossConfig.model_fields}
    mask_cut = changes.pop("mask_cut", False)
    return Learner(
        model,
        loss=LossConfig(**loss),
        update=UpdateConfig(**{"max_grad_norm": 1e9, "learning_rate": 1e-3, **changes}),
        steps=steps,
        temperature=temperature,
        max_tokens=MAX_TOKENS,
        mask_cut=mask_cut,
        device=CPU,
        dtype=torch.float32,
    )


class Recorder:
    """Stands in for the optimizer: keeps each step's gradient, one long vector, and moves nothing."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.gradients, self.param_groups = model, [], [{"lr": 0.0}]
        self.gradients: list[Tensor] = []

    def step(self) -> None:
        self.gradients.append(flat_gradient(self.model))

    def zero_grad(self, set_to_none: bool) -> None:
        self.model.zero_grad(set_to_none=set_to_none)


def flat_gradient(model: nn.Module) -> Tensor:
    return torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in model.parameters()])


def flat_weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()]).clone()


def gradients(learner: Learner, rollouts: Sequence[Rollout]) -> list[Tensor]:
    """The gradient of each optimizer step of an update, were the weights not moved by it."""
    recorder = Recorder(learner.model)
    optimizer, learner.optimizer = learner.optimizer, recorder  # type: ignore[assignment]
    learner.update(rollouts)
    learner.optimizer = optimizer
    return recorder.gradients


def naive_gradient(model: nn.Module, rollouts: Sequence[Rollout], loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Of loss(log-probs [N, C], mask [N, C]), the log-probs computed one sequence at a time."""
    model.zero_grad()
    logprobs = [naive_logprobs(model, r) for r in rollouts]
    loss(padded(logprobs), padded([torch.ones(len(lp), dtype=torch.bool) for lp in logprobs])).backward()
    gradient = flat_gradient(model)
    model.zero_grad()
    return gradient


def naive_policy_gradient(model: nn.Module, rollouts: Sequence[Rollout], kind: str, **keywords: Any) -> Tensor:
    """Of policy_loss with its own defaults, relative to the engine's log-probs."""
    low, high = DEFAULT_CLIP[kind]
    old = padded([torch.tensor(r.completion.logprobs) for r in rollouts])
    advantages = torch.tensor([r.advantage for r in rollouts])
    return naive_gradient(
        model,
        rollouts,
        lambda logprobs, mask: policy_loss(
            logprobs,
            keywords.pop("old_logprobs", old),
            advantages,
            keywords.pop("mask", mask),
            **{"kind": kind, "clip_low": low, "clip_high": high, "max_length": MAX_TOKENS, **keywords},
        ),
    )


def assert_same(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> None:
    """By the norm of the difference, relative to that of `b`."""
    assert b.norm() > 0, "nothing to compare with"
    assert (a - b).norm() <= tolerance * b.norm(), f"relative norm {float((a - b).norm() / b.norm()):.2e}"
