"""LoRA: small trained matrices beside frozen weights, by peft (Hu et al., arXiv 2106.09685).

The adapters are put into the model in place: its class, its config and its forward stay what they are, so whoever
generates or learns with it need not know of them. They have no dropout: the policy that learns must be the policy that
generated.

A fused weight, such as all experts of a mixture in one tensor, is no linear layer. It stays frozen unless
`lora.targets` names it; peft then builds the tensor anew in each forward pass, which is slow and needs memory.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from groupwise.config import LoraConfig
from groupwise.types import UserError


def targets_of(model: nn.Module, targets: Iterable[str]) -> tuple[list[str], list[str]]:
    """Last names of the layers, and names of the fused weights, that `targets` select; no targets: all layers.

    A layer is linear and not the output head. Raises UserError for a target that selects nothing.
    """
    head: Any = model.get_output_embeddings()  # type: ignore[operator]
    layers = [n for n, m in model.named_modules() if isinstance(m, nn.Linear | Conv1D) and m is not head]
    fused = [n for n, p in model.named_parameters() if p.ndim == 3 and not n.endswith(".weight")]
    known = dict.fromkeys(name.rpartition(".")[2] for name in layers)
    if not targets:
        return list(known), []
    chosen: tuple[list[str], list[str]] = ([], [])
    for target in targets:
        kind = next((k for k, names in enumerate((layers, fused)) if any(_is(n, target) for n in names)), None)
        if kind is None:
            every = ", ".join(dict.fromkeys([*known, *(name.rpartition(".")[2] for name in fused)]))
            raise UserError(
                f"lora.targets: {target!r} is no linear layer of {type(model).__name__}; there are: {every}"
            )
        chosen[kind].append(target)
    return chosen


def adapter_size(model: nn.Module, config: LoraConfig) -> int:
    """Number of weights of the adapters that `attach` would give the model; 0 for a rank of 0."""
    if not config.rank:
        return 0
    modules, parameters = targets_of(model, config.targets)
    head: Any = model.get_output_embeddings()  # type: ignore[operator]
    shapes = [
        p.shape
        for n, p in model.named_parameters()
        if p is not head.weight and (any(_is(n, f"{m}.weight") for m in modules) or any(_is(n, m) for m in parameters))
    ]
    return sum(config.rank * prod(shape[:-2]) * (shape[-1] + shape[-2]) for shape in shapes)


def attach(model: nn.Module, config: LoraConfig, seed: int) -> Any:
    """Freeze `model` and give it float32 adapters, drawn from `seed`; they add nothing yet. Returns peft's wrapper.

    Raises UserError where peft is missing or a target selects nothing.
    """
    peft = _peft()
    modules, parameters = targets_of(model, config.targets)
    asked = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=config.rank,
        lora_alpha=2 * config.rank if config.alpha is None else config.alpha,
        lora_dropout=0.0,
        target_modules=modules,
        target_parameters=parameters or None,
    )
    with torch.random.fork_rng(), _quiet():
        torch.manual_seed(seed)
        wrapper = peft.get_peft_model(model, asked)
    for weights in model.parameters():  # peft leaves those of fused weights in the type of the base
        if weights.requires_grad:
            weights.data = weights.data.float()
    return wrapper


def attached(model: nn.Module) -> bool:
    """Whether the model has adapters."""
    return any(True for _ in _adapters(model))


@contextmanager
def switched_off(model: nn.Module) -> Iterator[nn.Module]:
    """The model as it was before its adapters, inside."""
    try:
        for adapter in _adapters(model):
            adapter.enable_adapters(False)
        yield model
    finally:
        for adapter in _adapters(model):
            adapter.enable_adapters(True)


@torch.no_grad()
def merged_weights(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and weights of the model that it would be with its adapters merged in, one at a time."""
    added: dict[int, Any] = {}
    for adapter in _adapters(model):
        weights = getattr(adapter.get_base_layer(), getattr(adapter, "parameter_name", "weight"))
        added[id(weights)] = adapter
    for name, weights in model.named_parameters():
        if ".lora_" in name:
            continue
        found = added.get(id(weights))
        yield name.replace(".base_layer", ""), weights if found is None else weights + found.get_delta_weight("default")


def save_adapter(wrapper: Any, folder: Path) -> None:
    """The adapter alone, as a folder that `PeftModel.from_pretrained` loads."""
    # whether embeddings were trained is known here; peft would ask the hub
    wrapper.save_pretrained(folder, save_embedding_layers=False)


def merge_adapter(model: nn.Module, source: str, **where: bool) -> nn.Module:
    """The model with the adapter that lies in `source`, a folder or a repository of the hub, merged in."""
    with _quiet():
        merged: nn.Module = _peft().PeftModel.from_pretrained(model, source, **where).merge_and_unload()
    return merged.requires_grad_(True)


def _adapters(model: nn.Module) -> Iterator[Any]:
    """peft's layers. Known by what they do, so that a run without LoRA need not import peft."""
    return (module for module in model.modules() if hasattr(module, "enable_adapters") and hasattr(module, "lora_A"))


def _is(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without peft's warnings of what it does not use itself: names that are older than transformers' newest."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise UserError("lora: this needs peft: pip install 'groupwise[lora]'") from None
    return peft
