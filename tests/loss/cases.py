"""Random and hand-made batches that the tests of the losses share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from groupwise.loss import DEFAULT_CLIP, policy_loss

KINDS = tuple(DEFAULT_CLIP)
PER_COMPLETION = ("grpo", "gspo", "dr_grpo")
MAX_LENGTH = 7


@dataclass(kw_only=True)
class Case:
    """A batch [B, T]; the last row is empty."""

    logprobs: Tensor
    old_logprobs: Tensor
    ref_logprobs: Tensor
    advantages: Tensor
    mask: Tensor

    def arguments(self, rows: Any = slice(None), width: int | None = None) -> dict[str, Any]:
        """The tensor arguments of policy_loss without the reference, of some rows, cut to `width` columns."""
        cut = (rows, slice(width))
        advantages = self.advantages[rows] if self.advantages.ndim == 1 else self.advantages[cut]
        return {
            "logprobs": self.logprobs[cut],
            "old_logprobs": self.old_logprobs[cut],
            "advantages": advantages,
            "mask": self.mask[cut],
        }


def random_case(seed: int, *, batch: int = 5, length: int = 6, per_token: bool = False, spread: float = 0.3) -> Case:
    """Policy, old policy and reference about `spread` apart; rows of 1 to `length` tokens, the last one empty."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    logprobs = -normal(batch, length).abs() - 0.1
    lengths = torch.randint(1, length + 1, (batch,), generator=generator)
    lengths[-1] = 0
    return Case(
        logprobs=logprobs,
        old_logprobs=logprobs + spread * normal(batch, length),
        ref_logprobs=logprobs + spread * normal(batch, length),
        advantages=normal(batch, length) if per_token else normal(batch),
        mask=torch.arange(length) < lengths[:, None],
    )


def options(kind: str, **changes: Any) -> dict[str, Any]:
    """The keywords of policy_loss; clipping tight enough to happen on random tensors."""
    clip_low, clip_high = (0.02, 0.03) if kind == "gspo" else (0.2, 0.28)
    return {"kind": kind, "clip_low": clip_low, "clip_high": clip_high, "max_length": MAX_LENGTH, **changes}


def loss_and_gradient(arguments: dict[str, Any], **keywords: Any) -> tuple[Tensor, Tensor]:
    """The loss, and its gradient with respect to logprobs [B, T]."""
    logprobs = arguments["logprobs"].detach().clone().requires_grad_()
    loss = policy_loss(**{**arguments, "logprobs": logprobs}, **keywords)
    torch.autograd.backward(loss)  # not grad(): that would not show a gradient given to another input
    assert logprobs.grad is not None
    return loss.detach(), logprobs.grad


def from_ratios(ratios: list[list[float]], advantages: list[float]) -> dict[str, Any]:
    """Arguments in float64 whose pi / pi_old are `ratios`; rows may differ in length, padding is NaN. pi_old is 1/2."""
    width = max(len(row) for row in ratios)
    padded = torch.tensor([row + [math.nan] * (width - len(row)) for row in ratios], dtype=torch.float64)
    return {
        "logprobs": padded.log() + math.log(0.5),
        "old_logprobs": torch.full_like(padded, math.log(0.5)),
        "advantages": torch.tensor(advantages, dtype=torch.float64),
        "mask": ~padded.isnan(),
    }


def on_policy_gradient(kind: str, **changes: Any) -> tuple[Tensor, Case]:
    """The gradient [B, T] of a random case whose ratios are all 1, and the case."""
    case = random_case(3)
    case.old_logprobs = case.logprobs
    return loss_and_gradient(case.arguments(), **options(kind, **changes))[1], case
