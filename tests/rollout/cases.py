"""Tiny random models of several architectures, a word tokenizer, and what completions are checked against."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MixtralConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)
from transformers.models.llama.modeling_llama import LlamaAttention, apply_rotary_pos_emb, repeat_kv

from groupwise.rollout.local import LocalEngine
from groupwise.types import Completion, Prompt

SPECIAL = ["<pad>", "<bos>", "<eos>", "<unk>"]
VOCABULARY = 48  # tokens, the special ones included
EOS = 2
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": EOS}
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    **IDS,
}
WINDOW = {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]}


class OwnAttention(LlamaAttention):
    """As custom code has it: it calls torch itself, though its class says that it attends as it is told to."""

    def forward(  # type: ignore[override]
        self, hidden_states: Any, position_embeddings: Any, attention_mask: Any, past_key_values: Any, **_: Any
    ) -> Any:
        B, T, _width = hidden_states.shape
        parts = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (part(hidden_states).view(B, T, -1, self.head_dim).transpose(1, 2) for part in parts)
        q, k = apply_rotary_pos_emb(q, k, *position_embeddings)
        if past_key_values is not None:
            k, v = past_key_values.update(k, v, self.layer_idx)
        k, v = repeat_kv(k, self.num_key_value_groups), repeat_kv(v, self.num_key_value_groups)
        causal = attention_mask is None and T > 1
        out = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=attention_mask, is_causal=causal)
        return self.o_proj(out.transpose(1, 2).reshape(B, T, -1)), None


class Custom(LlamaForCausalLM):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        for i, layer in enumerate(self.model.layers):
            layer.self_attn = OwnAttention(config, i)


LATENT = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8}
CONFIGS: dict[str, Any] = {
    "llama": lambda: LlamaConfig(**SHAPE),
    "qwen3": lambda: Qwen3Config(**SHAPE),
    "gemma3": lambda: Gemma3TextConfig(**SHAPE, **WINDOW),  # sliding window
    "mixtral": lambda: MixtralConfig(**SHAPE, num_local_experts=4),  # mixture of experts
    "gemma2": lambda: Gemma2Config(**SHAPE, **WINDOW),  # caps its scores, so it attends eagerly
    "deepseek": lambda: DeepseekV3Config(  # caches latents, not keys and values
        **{k: v for k, v in SHAPE.items() if k not in ("num_key_value_heads", "head_dim")},
        **LATENT,
        first_k_dense_replace=2,
    ),
    "mamba": lambda: MambaConfig(  # no attention at all
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=4, **IDS
    ),
    "custom": lambda: LlamaConfig(**SHAPE),
}
GROUPED = {"llama", "qwen3", "gemma3", "mixtral"}  # what the grouped decoder can do


def tiny(kind: str, made_by: Any = None) -> Any:
    """A model in evaluation mode whose next token depends clearly on what it has read."""
    torch.manual_seed(0)
    made_by = made_by or (Custom if kind == "custom" else AutoModelForCausalLM.from_config)
    model = made_by(CONFIGS[kind]()).eval()
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim > 1:
                weights.normal_(0, 0.15)
    return model


def word_tokenizer(*, template: str | None = None, adds_bos: bool = False, **special: str) -> Any:
    """Words w4, w5, ... and special tokens; `special` may override or add tokens, e.g. eos_token=None."""
    words = SPECIAL + [f"w{i}" for i in range(len(SPECIAL), VOCABULARY)]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", EOS)]
        )
    names = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"} | special
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **{k: v for k, v in names.items() if v})
    fast.chat_template = template
    return fast


def some_prompts(count: int = 5, copies: Sequence[int] = (3, 1, 2), seed: int = 0) -> list[Prompt]:
    """`count` different prompts of 2 to 11 tokens; the copies of each stand together, in the numbers of `copies`."""
    draw = random.Random(seed)
    prompts = [
        Prompt(
            id=str(i),
            task="t",
            domain="d",
            text="",
            token_ids=tuple(draw.randrange(len(SPECIAL), VOCABULARY) for _ in range(draw.randint(2, 11))),
        )
        for i in range(count)
    ]
    return [prompt for i, prompt in enumerate(prompts) for _ in range(copies[i % len(copies)])]


def engine(kind: str = "llama", *, ends: Sequence[int] = (EOS,), made_by: Any = None, **options: Any) -> LocalEngine:
    """An engine on a tiny model that ends completions at `ends`."""
    model = tiny(kind, made_by)
    model.generation_config.eos_token_id = list(ends)
    return LocalEngine(model, word_tokenizer(), **options)


def forced(model: Any, prompt: Prompt, completion: Completion, temperature: float = 1.0) -> torch.Tensor:
    """Log-probs [T] of the completion under one plain forward pass over prompt and completion."""
    ids = torch.tensor([prompt.token_ids + completion.token_ids])
    start = len(prompt.token_ids)
    with torch.no_grad():
        scores = torch.log_softmax(model(input_ids=ids, use_cache=False).logits / temperature, dim=-1)
    return scores[0, start - 1 : -1].gather(-1, ids[0, start:, None])[:, 0]


def tokens(completions: Sequence[Completion]) -> list[tuple[int, ...]]:
    return [c.token_ids for c in completions]


def check_end(completion: Completion, max_tokens: int, ends: tuple[int, ...]) -> None:
    inside = [t in ends for t in completion.token_ids]
    assert not any(inside[:-1])
    assert completion.finish_reason == ("stop" if inside[-1] else "length")
    assert len(completion.token_ids) == max_tokens or inside[-1]
    assert len(completion.logprobs) == len(completion.token_ids) <= max_tokens
    said = completion.token_ids[: -1 if inside[-1] else None]
    assert completion.text == " ".join(f"w{t}" for t in said if t > 3)  # neither special nor end tokens


def prompt_of(length: int) -> Prompt:
    return Prompt(id=f"p{length}", task="t", domain="d", text="", token_ids=tuple(range(4, 4 + length)))
