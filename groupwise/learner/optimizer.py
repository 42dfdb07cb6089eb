"""AdamW, its parameter groups and its learning-rate schedule."""

from __future__ import annotations

import math

import torch
from torch import nn

from groupwise.config import OptimizerConfig


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """Fused AdamW; norms and biases (vectors) are not decayed."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]], lr=config.learning_rate, betas=config.betas, fused=True
    )


def learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """Rate of update `step` (0-based) of `steps`: linear warm-up, then constant, linear or cosine to 0."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, steps - config.warmup)
    factor = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[config.schedule]
    return config.learning_rate * factor


def optimizer_step(model: nn.Module, optimizer: torch.optim.Optimizer, rate: float, max_grad_norm: float) -> float:
    """Clip, step and clear; returns the gradient norm before clipping. A non-finite gradient is not applied."""
    norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm))
    for group in optimizer.param_groups:
        group["lr"] = rate
    if math.isfinite(norm):
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm
