"""Decoding on a CPU with weights of 8 bits: a quarter of the bytes to move, and integer products."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

STEPS = 127  # of an int8 on either side of 0
LEAST = 1e-12  # for rows of zeros


class Rounded:
    """The linear layers of a model as they are now, each weight rounded to 8 bits by a scale for each output.

    `with rounded:` puts them in place of the model's own. Inputs are rounded as well, each row by a scale of its own:
    in language models a few rows are hundreds of times as large as the rest, and would leave these no digits.
    """

    def __init__(self, model: nn.Module) -> None:
        linear: list[Any] = [module for module in model.modules() if type(module) is nn.Linear]
        self._forwards = [(layer, partial(_multiply, _packed(layer.weight), layer.bias)) for layer in linear]

    def __enter__(self) -> None:
        for layer, forward in self._forwards:
            layer.forward = forward

    def __exit__(self, *error: object) -> None:
        for layer, _ in self._forwards:
            del layer.forward  # that of its class is back


def _packed(weight: Tensor) -> Any:
    weight = weight.detach().float()
    scales = (weight.abs().amax(-1) / STEPS).clamp_min(LEAST).double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch may give up quantized tensors; no other kernel is as fast
        rounded = torch.quantize_per_channel(weight, scales, torch.zeros_like(scales).long(), 0, torch.qint8)
    return torch.ops.quantized.linear_prepack(rounded, None)


def _multiply(packed: Any, bias: Tensor | None, x: Tensor) -> Tensor:
    """x [..., I] -> [..., O] in the type of x."""
    scale = x.float().abs().amax(-1, keepdim=True).clamp_min(LEAST)
    # reduce_range: without it sums of products overflow on processors that add them up in 16 bits
    y: Tensor = torch.ops.quantized.linear_dynamic(x / scale, packed, reduce_range=True) * scale
    return (y if bias is None else y + bias).to(x.dtype)
