"""Decoding on a CPU in float32: products of many weights with few rows, in the order in which they are fast.

A linear layer multiplies x [B, I] by its weight [O, I] as x W'. For the few rows of a decode step (W x')' is the same
sum, and quicker: the library then splits the work along the weights, which are many. The result lies
in memory as [O, B]. Where the layer is a widening one it stays so, for elementwise operations keep that order and the
product after them wants it; elsewhere it is put in order, as norms and attention read along features.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from groupwise.rollout.products import Forward, layers


def thin(model: nn.Module) -> list[Forward]:
    """For each linear layer the product in the order that is fast for few rows."""
    return [(layer, partial(_multiply, layer)) for layer in layers(model, [nn.Linear])]


def _multiply(layer: Any, x: Tensor) -> Tensor:
    """x [..., I] -> [..., O]."""
    columns = x.reshape(-1, layer.in_features).t()
    if layer.bias is None:
        y = torch.mm(layer.weight, columns)
    else:
        y = torch.addmm(layer.bias[:, None], layer.weight, columns)
    rows = y.t() if layer.out_features > layer.in_features else y.t().contiguous()
    return rows.view(*x.shape[:-1], layer.out_features)
