"""What a policy loss consists of. Each loss is one `Loss` in a file of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

# (log pi/pi_old [B, T], mask [B, T]) -> the ratio that is clipped, [B, T] or [B, 1]
Ratio = Callable[[Tensor, Tensor], Tensor]
# (ratio, advantages [B, T], logprobs [B, T], clip_low, clip_high) -> loss of each token [B, T]
Surrogate = Callable[[Tensor, Tensor, Tensor, float, float], Tensor]
# (loss of each token [B, T], mask [B, T], max_length) -> the sum that is divided by the number of units, scalar
Total = Callable[[Tensor, Tensor, "int | None"], Tensor]


@dataclass(frozen=True, kw_only=True)
class Loss:
    """loss = total(surrogate(ratio) + beta KL) / number of units.

    The division is kept apart so that micro-batches can share the count of the whole update.
    """

    ratio: Ratio
    surrogate: Surrogate
    total: Total
    unit: Literal["completions", "tokens"]  # what the denominator counts
    clip: tuple[float, float]  # the paper's (low, high); the ratio is cut at 1 - low and 1 + high
