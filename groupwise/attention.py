"""Giving transformers' models another attention: which models take it, and the switch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PECULIAR = ("position_bias", "softcap", "s_aux")  # arguments that change the scores


class UnsupportedError(Exception):
    """The model does with its queries, keys and values what another attention cannot know."""


def ordinary(model: Any) -> bool:
    """Whether the model says that it attends as decoders do: to all of the past, or to a window of it."""
    text = model.config.get_text_config()
    return bool(
        all(getattr(module, "_supports_attention_backend", True) for module in model.modules())
        and all(_like_sdpa(config._attn_implementation) for config in attending_configs(model))
        and set(getattr(text, "layer_types", None) or ()) <= {"full_attention", "sliding_attention"}
        and getattr(text, "attention_chunk_size", None) is None
        and getattr(text, "is_causal", True)
    )


def check_arguments(module: Any, attention_mask: Any, arguments: dict[str, Any]) -> None:
    """Raise UnsupportedError for arguments of a layer that ask for more than scaled products and a window."""
    if attention_mask is not None or any(arguments.get(name) is not None for name in PECULIAR):
        raise UnsupportedError(f"{type(module).__name__} attends in a way of its own")


@contextmanager
def attending_by(name: str, configs: list[Any]) -> Iterator[None]:
    """Models with these configs attend by what is registered as `name`; transformers builds no mask for it."""
    before = [config._attn_implementation for config in configs]
    try:
        for config in configs:
            config._attn_implementation = name
        yield
    finally:
        for config, implementation in zip(configs, before, strict=True):
            config._attn_implementation = implementation


def attending_configs(model: Any) -> list[Any]:
    """The configs by which the model's modules choose their attention."""
    found = {id(config): config for module in model.modules() if (config := getattr(module, "config", None))}
    return [config for config in found.values() if getattr(config, "_attn_implementation", None)]


def _like_sdpa(implementation: str) -> bool:
    """Other implementations may cap scores or have sinks; transformers refuses sdpa to models that need those."""
    return implementation == "sdpa" or implementation.startswith("groupwise")
