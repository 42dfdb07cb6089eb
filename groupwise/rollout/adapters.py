"""Generating with LoRA adapters, and frozen weights below them, at the price of the model without adapters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def merged(model: nn.Module) -> Iterator[None]:
    """Inside, adapters are part of the weights beside which they stand; afterwards the weights are what they were.

    The weights are put aside and come back, since subtracting what was added would not give them back exactly. Adapters
    of weights with fewer than 32 bits stay apart: what they add would be lost in rounding.
    """
    aside: list[tuple[Any, nn.Parameter, torch.Tensor]] = []
    try:
        for adapter in _adapters(model):
            weights = getattr(adapter.get_base_layer(), getattr(adapter, "parameter_name", "weight"))
            if weights.dtype is torch.float32:
                aside.append((adapter, weights, weights.data))
                weights.data = weights.data + adapter.get_delta_weight("default").detach()
                adapter.merged_adapters.append("default")  # so that its forward is that of the base layer
        yield
    finally:
        for adapter, weights, data in reversed(aside):
            weights.data = data
            adapter.merged_adapters.clear()


@contextmanager
def casts_kept(model: nn.Module) -> Iterator[None]:
    """Inside, autocast casts frozen weights once, as it does the others: it keeps casts of weights with gradients."""
    frozen = [w for w in model.parameters() if w.dtype is torch.float32 and not w.requires_grad]
    for weights in frozen:
        weights.requires_grad_(True)
    try:
        yield
    finally:
        for weights in frozen:
            weights.requires_grad_(False)


def _adapters(model: nn.Module) -> list[Any]:
    """peft's layers that are switched on. Known by what they do, so that a run without LoRA need not import peft."""
    found: list[Any] = [m for m in model.modules() if hasattr(m, "get_delta_weight") and hasattr(m, "merged_adapters")]
    return [adapter for adapter in found if not adapter.disable_adapters]
