"""The losses by name."""

from __future__ import annotations

from groupwise.loss.cispo import CISPO
from groupwise.loss.dapo import DAPO
from groupwise.loss.dr_grpo import DR_GRPO
from groupwise.loss.grpo import GRPO
from groupwise.loss.gspo import GSPO
from groupwise.loss.ppo import PPO
from groupwise.loss.spec import Loss

LOSSES: dict[str, Loss] = {
    "grpo": GRPO,
    "dapo": DAPO,
    "dr_grpo": DR_GRPO,
    "gspo": GSPO,
    "cispo": CISPO,
    "ppo": PPO,
}

# kind -> (clip_low, clip_high); the ratio is cut at 1 - clip_low and 1 + clip_high
DEFAULT_CLIP: dict[str, tuple[float, float]] = {kind: loss.clip for kind, loss in LOSSES.items()}


def find(kind: str) -> Loss:
    """The loss of this name. ValueError with the names allowed."""
    if kind not in LOSSES:
        raise ValueError(f"unknown loss {kind!r}; allowed: {', '.join(LOSSES)}")
    return LOSSES[kind]
