"""What both sides are given: a model of random weights, its tokenizer, and prompts; nothing is downloaded."""

from __future__ import annotations

import json
import random
from itertools import chain, islice, product
from pathlib import Path
from typing import Any

from compare_trl.works import PROMPT_STEPS, Work

PAD, END = "<pad>", "<eos>"
CHARACTERS = [chr(code) for code in range(ord("!"), ord("~") + 1)]
CONTEXT = 2048


def symbols(work: Work) -> list[str]:
    """What the model's ids say: characters first, then words of three of them, which no prompt holds.

    With `natural` the end token is the model's last id. Otherwise it is one past it: no side can sample it, and none
    has to suppress it.
    """
    words = chain(CHARACTERS, map("".join, product(CHARACTERS, repeat=3)))
    return [PAD, *islice(words, work.vocabulary - (2 if work.natural else 1)), END]


def make(work: Work, folder: Path, seed: int = 0) -> None:
    """Leaves `model/` and `prompts.json` in the folder."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = build_tokenizer(work)
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=work.vocabulary,
        hidden_size=work.hidden,
        num_hidden_layers=work.layers,
        num_attention_heads=work.heads,
        num_key_value_heads=work.kv_heads,
        intermediate_size=work.intermediate,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id if work.natural else None,
        bos_token_id=None,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    (folder / "prompts.json").write_text(json.dumps(prompts(work, seed)))


def build_tokenizer(work: Work) -> Any:
    """Byte-level, as the architecture's own; without merges, so that each character of a text is a token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE({symbol: number for number, symbol in enumerate(symbols(work))}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, padding_side="left")


def prompts(work: Work, seed: int = 0) -> list[str]:
    """Random texts of exactly `prompt_tokens` characters."""
    characters = [symbol for symbol in symbols(work)[1:-1] if len(symbol) == 1]
    draw = random.Random(seed)
    return ["".join(draw.choices(characters, k=work.prompt_tokens)) for _ in range(PROMPT_STEPS * work.prompts)]


def share_of_odd(completions: list[str]) -> list[float]:
    """The reward [N]: the share of odd characters. Trivial, and hardly ever the same for all of a group."""
    return [sum(ord(character) % 2 for character in text) / max(1, len(text)) for text in completions]
