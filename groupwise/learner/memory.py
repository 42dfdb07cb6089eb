"""What a run will need of memory, what there is, and which keys to change where that is too little.

The estimate is of what is large: it counts no interpreter, no libraries, and nothing that an allocator wastes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from groupwise.config import LoraConfig, Recipe
from groupwise.learner.head import slice_tokens
from groupwise.learner.lora import adapter_size

_log = logging.getLogger(__name__)

FLOAT = 4  # bytes of float32
WAVE_ROWS, WAVE_TOKENS = 256, 1 << 16  # the most that the local engine generates at once; a GPU caches more tokens
CACHED_TOKENS = {"cpu": WAVE_TOKENS, "cuda": 1 << 20}
LEAST_CACHED = 4096  # tokens; with fewer a run would crawl, and an estimate may be too dark
CACHE_SHARE = 0.5  # of what the rest leaves free: keys and values are copied where they grow, and where rows leave
PROMPT = 128  # tokens that a prompt is taken to have: recipes do not say
# More of a forward and backward pass at once gain nothing: caches are full on a CPU, and a GPU is busy.
MICRO_TOKENS = {"cpu": 1024, "cuda": 16384}
LEAST_TOKENS = 256
# Keys of configs whose models change their logits, so that those of a whole micro-batch are computed at once.
CHANGING = ("final_logit_softcapping", "logits_soft_cap", "logit_scale", "logits_scaling")
GENERATING = {"cache", "scores", "rounded"}
LEARNING = {"gradients", "activations", "logits"}  # completions are generated before or after
# The keys that make an item smaller, the cheapest first.
KEYS = {
    "weights": ("lora.rank",),
    "casts": ("lora.rank",),
    "optimizer": ("lora.rank",),
    "gradients": ("lora.rank",),
    "reference": ("lora.rank", "loss.beta"),
    "cache": ("rollout.batch_size", "rollout.max_tokens"),
    "scores": ("rollout.batch_size",),
    "rounded": ("rollout.int8",),
    "activations": ("update.micro_tokens", "update.gradient_checkpointing"),
    "logits": ("update.micro_tokens",),
}


def estimate(config: Any, recipe: Recipe, dtype: torch.dtype) -> dict[str, int]:
    """Bytes by item of a run of `recipe` on a model of this Hugging Face config that computes in `dtype`.

    weights, their casts to the compute type, AdamW's two moments, the reference; while generating, keys and values
    (cache), the next tokens' logits (scores) and the weights of 8 bits (rounded); while learning, gradients,
    activations and logits of a micro-batch. The run needs `peak` of them. Raises UserError for a LoRA target that
    selects nothing.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    count, adapters = sum(p.numel() for p in model.parameters()), adapter_size(model, recipe.lora)
    trained = adapters or count
    saved = (getattr(config, "dtype", None) or torch.float32) if adapters else torch.float32
    weight = FLOAT if dtype is torch.float32 else saved.itemsize
    width = PROMPT + recipe.rollout.max_tokens
    wave = min(recipe.rollout.batch_size, WAVE_ROWS, max(1, WAVE_TOKENS // width))
    asked = recipe.update.micro_tokens or max(MICRO_TOKENS.values())
    micro = max(width, min(asked, recipe.rollout.batch_size // recipe.update.minibatches * width))
    predicted = micro * recipe.rollout.max_tokens // width  # the tokens of a micro-batch that are completions
    vocabulary, layers, hidden, head, queries, shared = _shape(config)
    changed = any(getattr(config.get_text_config(), key, None) not in (None, 1) for key in CHANGING)
    # What autograd keeps of a token in a layer: norms and residuals are float32, the rest is of the compute type.
    # Between the counts for Llama and for Gemma 3, whose norms are more.
    kept = 6 * hidden * FLOAT + (4 * hidden + 3 * (queries + 2 * shared) * head + 5 * _inner(config)) * dtype.itemsize
    recomputed = recipe.update.gradient_checkpointing
    return {
        "weights": count * weight + adapters * FLOAT,
        "casts": count * dtype.itemsize if weight != dtype.itemsize else 0,
        "optimizer": 2 * trained * FLOAT,
        "reference": count * FLOAT if recipe.loss.beta > 0 and not adapters else 0,
        "cache": wave * width * _cached(config, dtype),
        "scores": 4 * wave * vocabulary * FLOAT,
        "rounded": count if recipe.rollout.int8 else 0,
        "gradients": trained * FLOAT,
        "activations": micro * (layers * hidden * FLOAT + kept if recomputed else layers * kept),
        "logits": 4 * (predicted if changed else min(predicted, slice_tokens(vocabulary))) * vocabulary * FLOAT,
    }


def peak(items: Mapping[str, int]) -> int:
    """Bytes at the moment that needs most: what always stays, and the larger of generating and learning."""
    stays = sum(size for name, size in items.items() if name not in GENERATING | LEARNING)
    return stays + max(sum(items[name] for name in phase) for phase in (GENERATING, LEARNING))


def cached_tokens(config: Any, recipe: Recipe, dtype: torch.dtype, device: torch.device, *, learning: bool) -> int:
    """Tokens whose keys and values have room beside all that a run keeps; the weights are on the device already.

    Where nothing is learned there are neither optimizer nor adapters.
    """
    most, free = CACHED_TOKENS[device.type], available(device)
    if free is None:
        return most
    if not learning:
        recipe = recipe.model_copy(update={"lora": LoraConfig()})
    items = estimate(config, recipe, dtype)
    kept = ["casts", "scores", "rounded", *(["optimizer", "reference"] if learning else [])]
    room = free - sum(items[name] for name in kept)
    return min(most, max(LEAST_CACHED, int(CACHE_SHARE * room) // _cached(config, dtype)))


def available(device: torch.device) -> int | None:
    """Free bytes of the GPU; of main memory, less where a control group limits it. None where nobody says."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    found = [free for free in (_free(Path("/proc/meminfo")), _left(Path("/sys/fs/cgroup"))) if free is not None]
    return min(found, default=None)


def shortage(config: Any, recipe: Recipe, dtype: torch.dtype, free: int) -> str | None:
    """One line that says what the run needs and which keys make that less; None where `free` bytes are enough."""
    items = estimate(config, recipe, dtype)
    need = peak(items)
    if need <= free:
        return None
    largest = sorted(items, key=lambda name: -items[name])[:4]
    already = {
        "update.micro_tokens": 0 < (recipe.update.micro_tokens or 0) <= LEAST_TOKENS,
        "lora.rank": recipe.lora.rank > 0,
        "update.gradient_checkpointing": recipe.update.gradient_checkpointing,
    }
    keys = dict.fromkeys(key for name in largest for key in KEYS[name] if not already.get(key))
    parts = ", ".join(f"{name} {items[name] / 2**30:.1f}" for name in largest)
    change = f"; consider {', '.join(keys)}" if keys else ""
    return f"memory: the run needs about {need / 2**30:.1f} GiB ({parts}), and {free / 2**30:.1f} are free{change}"


def with_micro_tokens(config: Any, recipe: Recipe, dtype: torch.dtype, device: torch.device) -> Recipe:
    """The recipe with the largest `update.micro_tokens` that fits, where it names none; before weights are loaded.

    Warns where the run will probably not fit into memory all the same.
    """
    free = available(device)
    tokens = recipe.update.micro_tokens or MICRO_TOKENS[device.type]
    chosen = _with_tokens(recipe, tokens)
    if free is None:
        return chosen
    while recipe.update.micro_tokens is None and tokens > LEAST_TOKENS and shortage(config, chosen, dtype, free):
        tokens //= 2
        chosen = _with_tokens(recipe, tokens)
    if line := shortage(config, chosen, dtype, free):
        _log.warning("%s", line)
    return chosen


def _with_tokens(recipe: Recipe, tokens: int) -> Recipe:
    return recipe.model_copy(update={"update": recipe.update.model_copy(update={"micro_tokens": tokens})})


def _shape(config: Any) -> tuple[int, int, int, int, int, int]:
    """Vocabulary, layers, hidden size, size of a head, heads, and heads that keep keys and values."""
    text = config.get_text_config()
    queries = getattr(text, "num_attention_heads", None) or 1
    shared = getattr(text, "num_key_value_heads", None) or queries
    head = getattr(text, "head_dim", None) or text.hidden_size // queries
    return text.vocab_size, text.num_hidden_layers, text.hidden_size, head, queries, shared


def _cached(config: Any, dtype: torch.dtype) -> int:
    """Bytes of a token's keys and values."""
    _, layers, _, head, _, shared = _shape(config)
    return layers * 2 * shared * head * dtype.itemsize


def _inner(config: Any) -> int:
    """Width of the feed-forward layer, of a mixture as much of it as works on one token."""
    text = config.get_text_config()
    dense = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    width = getattr(text, "moe_intermediate_size", None) or dense
    return int(width * (getattr(text, "num_experts_per_tok", None) or 1))


def _free(meminfo: Path) -> int | None:
    if not meminfo.exists():
        return None
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    return int(lines["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in lines else None


def _left(group: Path) -> int | None:
    """Of a control group's limit (version 2, else 1); its cached files can be given up."""
    for limit, used in (
        (group / "memory.max", group / "memory.current"),
        (group / "memory/memory.limit_in_bytes", group / "memory/memory.usage_in_bytes"),
    ):
        if limit.exists() and used.exists() and (most := limit.read_text().strip()).isdigit():
            counts = (used.parent / "memory.stat").read_text().split()
            cached = dict(zip(counts[::2], counts[1::2], strict=False)).get("inactive_file", "0")
            return int(most) - int(used.read_text()) + int(cached)
    return None
