"""Prepare an untrained seedling: its tokenizer and random weights, from the recipe's own data.

    python scripts/make_seedling.py init FOLDER     tokenizer and random weights
    python scripts/make_seedling.py export FOLDER   trained folder -> bf16 weights inside the package

`make seedling` runs init, `groupwise sft recipes/seedling.yaml`, and export.
"""

from __future__ import annotations

import json
import shutil
import sys
from itertools import islice
from pathlib import Path
from random import Random

import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from groupwise.config import TaskConfig
from groupwise.tasks.demonstrations import demonstrate
from groupwise.tasks.gym import load_task

ROOT = Path(__file__).resolve().parent.parent
PACKAGED = ROOT / "groupwise" / "assets" / "seedling"
SPECIAL = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
TAGS = ["<think>", "</think>", "<answer>", "</answer>"]
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def corpus() -> list[str]:
    recipe = yaml.safe_load((ROOT / "recipes" / "seedling.yaml").read_text())
    rng, texts = Random(0), []
    for source in recipe["data"]:
        task = load_task(TaskConfig(name=source["name"], params=source.get("params", {})))
        for prompt in islice(task.stream(0, held_out=False), 400):
            texts.append(prompt.text)
            if task.family != "spell_backward":  # or pairs of spelled letters would become tokens
                texts.append(demonstrate(prompt, task.family, "careful", rng))
    return texts


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE in which every digit stands alone and merges may cross spaces.

    The families' fixed phrases thus become a handful of tokens, which makes prompts about three times shorter; a high
    minimum frequency keeps the varying content in small pieces.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Split("\n", behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        min_frequency=60,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=SPECIAL + TAGS,
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    state = json.loads(tokenizer.to_str())
    for token in state["added_tokens"]:  # the trainer marks all as special, but tags must survive decoding
        token["special"] = token["content"] in SPECIAL
    tokenizer = Tokenizer.from_str(json.dumps(state))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>", padding_side="left", model_max_length=1024
    )
    fast.chat_template = TEMPLATE
    return fast


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=-(-len(tokenizer) // 64) * 64,  # a multiple of 64 keeps the output product aligned
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config)


def init(folder: Path) -> None:
    tokenizer = build_tokenizer()
    model = build_model(tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    print(f"{folder}: {sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens")


def export(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    card = (PACKAGED / "README.md").read_text() if (PACKAGED / "README.md").exists() else None
    shutil.rmtree(PACKAGED, ignore_errors=True)
    model.save_pretrained(PACKAGED)
    AutoTokenizer.from_pretrained(folder).save_pretrained(PACKAGED)
    if card:
        (PACKAGED / "README.md").write_text(card)
    size = sum(f.stat().st_size for f in PACKAGED.iterdir()) / 2**20
    print(json.dumps({"folder": str(PACKAGED.relative_to(ROOT)), "MiB": round(size, 1)}))


if __name__ == "__main__":
    {"init": init, "export": export}[sys.argv[1]](Path(sys.argv[2]))
