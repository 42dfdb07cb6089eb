"""Tiny random models of several architectures, saved as one finds them, with the character tokenizer of tiny.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tiny import tiny_model

SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": None,
}


def llama(**shape: Any) -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(**shape)


def qwen3(**shape: Any) -> Any:
    from transformers import Qwen3Config

    return Qwen3Config(**shape, tie_word_embeddings=True)


def gemma3(**shape: Any) -> Any:
    """With a window that is shorter than a prompt and its completion; the head is tied to the embeddings."""
    from transformers import Gemma3TextConfig

    layers = ["sliding_attention", "full_attention"]
    return Gemma3TextConfig(**shape, sliding_window=16, layer_types=layers, tie_word_embeddings=True)


def qwen3_moe(**shape: Any) -> Any:
    """A mixture of experts, all experts of a layer in one tensor."""
    from transformers import Qwen3MoeConfig

    return Qwen3MoeConfig(**shape, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16)


CONFIGS: dict[str, Callable[..., Any]] = {"llama": llama, "qwen3": qwen3, "gemma3": gemma3, "qwen3_moe": qwen3_moe}


def save_model(kind: str, folder: Path, *, dtype: str = "float32", seed: int = 0, **shape: Any) -> Path:
    """Save a random model of this kind with its tokenizer in `folder`; returns it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tiny_model(folder, hidden=8, layers=1)  # for its tokenizer
    vocabulary = len(AutoTokenizer.from_pretrained(folder))
    config = CONFIGS[kind](**{**SHAPE, "vocab_size": vocabulary, **shape})
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    return folder
