"""Decoding on a CPU with weights of 8 bits: a quarter of the bytes to move, and integer products."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from groupwise.rollout.products import Forward, layers

STEPS = 127  # of an int8 on either side of 0
LEAST = 1e-12  # for rows of zeros
KINDS = (nn.Linear, Conv1D)  # layers that can be rounded; the second keeps its weight the other way round


def rounded(model: nn.Module) -> list[Forward]:
    """For each linear layer as it is now the product with its weight rounded to 8 bits, by a scale for each output.

    Inputs are rounded as well, each row by a scale of its own: in language models a few rows are hundreds of times as
    large as the rest, and would leave these no digits.
    """
    return [(layer, partial(_multiply, _packed(layer), layer.bias)) for layer in layers(model, KINDS)]


def share(model: nn.Module) -> float:
    """Of the weights that tokens are multiplied with, those that can be rounded."""
    linear: dict[int, Tensor] = {id(layer.weight): layer.weight for layer in layers(model, KINDS)}
    looked_up = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)} - set(linear)
    every = [weights for weights in model.parameters() if weights.ndim > 1 and id(weights) not in looked_up]
    return sum(w.numel() for w in linear.values()) / max(1, sum(w.numel() for w in every))


def _packed(layer: Any) -> Any:
    weight = layer.weight.detach().float()
    weight = weight.T.contiguous() if type(layer) is Conv1D else weight
    scales = (weight.abs().amax(-1) / STEPS).clamp_min(LEAST).double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch may give up quantized tensors; no other kernel is as fast
        weight = torch.quantize_per_channel(weight, scales, torch.zeros_like(scales).long(), 0, torch.qint8)
    return torch.ops.quantized.linear_prepack(weight, None)


def _multiply(packed: Any, bias: Tensor | None, x: Tensor) -> Tensor:
    """x [..., I] -> [..., O] in the type of x."""
    scale = x.float().abs().amax(-1, keepdim=True).clamp_min(LEAST)
    # reduce_range: without it sums of products overflow on processors that add them up in 16 bits
    y: Tensor = torch.ops.quantized.linear_dynamic(x / scale, packed, reduce_range=True) * scale
    return (y if bias is None else y + bias).to(x.dtype)
