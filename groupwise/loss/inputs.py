"""Checks and cleans what comes into a loss, so that the formulas can be written without thinking of padding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """All [B, T], in the working dtype, 0 at padded positions; only `logprobs` carries a gradient. `mask` is bool."""

    logprobs: Tensor
    old_logprobs: Tensor
    advantages: Tensor
    mask: Tensor


def prepare(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor) -> Inputs:
    """Any mask entry that is not 0 is a valid token. ValueError when shapes or dtypes do not fit."""
    if logprobs.ndim != 2 or not logprobs.is_floating_point():
        raise ValueError(f"logprobs is {logprobs.dtype} {list(logprobs.shape)}; it must be floating point [B, T]")
    shape = logprobs.shape
    if mask.shape != shape:
        raise ValueError(f"mask is {list(mask.shape)}; it must be [B, T] = {list(shape)}, as logprobs is")
    valid = mask != 0
    if advantages.shape not in (shape, shape[:1]):
        raise ValueError(
            f"advantages is {list(advantages.shape)}; it must be [B] = {list(shape[:1])} or [B, T] = {list(shape)}"
        )
    if advantages.ndim == 1:
        advantages = advantages[:, None].expand(shape)
    dtype = working_dtype(logprobs)
    return Inputs(
        # masked before any exp(): where() also stops a NaN or inf of the padding from reaching the gradient
        logprobs=torch.where(valid, logprobs.to(dtype), 0.0),
        old_logprobs=constant("old_logprobs", old_logprobs, valid, dtype),
        advantages=constant("advantages", advantages, valid, dtype),
        mask=valid,
    )


def constant(name: str, values: Tensor, valid: Tensor, dtype: torch.dtype) -> Tensor:
    """[B, T] `values` without gradient, 0 where not `valid`. ValueError, with `name`, when the shapes differ."""
    if values.shape != valid.shape:
        raise ValueError(f"{name} is {list(values.shape)}; it must be [B, T] = {list(valid.shape)}, as logprobs is")
    return torch.where(valid, values.detach().to(dtype), 0.0)


def working_dtype(logprobs: Tensor) -> torch.dtype:
    """The input's dtype, but at least float32."""
    return torch.promote_types(logprobs.dtype, torch.float32)
