"""What a run is said to need of memory, against what it has been measured to need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from models import CONFIGS, SHAPE
from transformers import Gemma2Config, GraniteConfig

from groupwise.config import Recipe
from groupwise.learner import memory
from groupwise.learner.head import slice_tokens
from groupwise.learner.memory import FLOAT, available, cached_tokens, estimate, peak, shortage, with_micro_tokens
from groupwise.rollout.local import LocalEngine
from groupwise.types import UserError

from .cases import CPU

GIB = 2**30
F32, BF16 = torch.float32, torch.bfloat16


def recipe(**sections: Any) -> Recipe:
    return Recipe.model_validate(sections)


def config(kind: str = "llama", **shape: Any) -> Any:
    return CONFIGS[kind](**{**SHAPE, "vocab_size": 96, **shape})


def qwen3_8b() -> Any:
    shape = {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32}
    made = config("qwen3", **shape, num_key_value_heads=8, head_dim=128, vocab_size=151936)
    made.dtype = BF16
    return made


def test_what_is_exact() -> None:
    count = 8 * 10**9 - 380_000_000  # less the head, which is tied here
    items = estimate(qwen3_8b(), recipe(), BF16)
    assert items["weights"] == pytest.approx(count * 4, rel=0.01)
    assert items["weights"] == items["gradients"] == items["optimizer"] // 2 == 2 * items["casts"]
    assert items["reference"] == items["rounded"] == 0
    assert estimate(qwen3_8b(), recipe(rollout={"int8": True}), F32)["rounded"] == items["weights"] // 4
    assert items["cache"] == 128 * (128 + 128) * 36 * 2 * 8 * 128 * 2
    assert estimate(qwen3_8b(), recipe(loss={"beta": 0.1}), BF16)["reference"] == items["weights"]


def test_lora_needs_little_beside_the_base() -> None:
    tokens = {"micro_tokens": 4096}
    asked = [recipe(lora={"rank": r}, loss={"beta": 0.1}, update=tokens) for r in (0, 16)]
    whole, lora = (estimate(qwen3_8b(), a, BF16) for a in asked)
    adapters = 36 * 16 * (4096 * 2 * 2 + 1024 * 2 + 4096 * 2 + 3 * (4096 + 12288))
    assert lora["gradients"] == adapters * FLOAT
    assert lora["optimizer"] == 2 * adapters * FLOAT
    assert lora["weights"] == whole["weights"] // 2 + adapters * FLOAT
    assert lora["reference"] == lora["casts"] == 0
    assert peak(lora) < peak(whole) / 2


@pytest.mark.parametrize(
    ("less", "item"),
    [
        ({"update": {"micro_tokens": 1024}}, "activations"),
        ({"update": {"micro_tokens": 1024}}, "logits"),
        ({"update": {"gradient_checkpointing": True}}, "activations"),
        ({"rollout": {"batch_size": 32}}, "cache"),
        ({"rollout": {"max_tokens": 32}}, "cache"),
        ({"rollout": {"batch_size": 32}}, "scores"),
        ({"lora": {"rank": 8}}, "optimizer"),
    ],
)
def test_the_keys_it_names_do_help(less: dict[str, Any], item: str) -> None:
    usual, smaller = (estimate(config(), recipe(**sections), F32) for sections in ({}, less))
    assert smaller[item] < usual[item] / 1.5
    (section,), (key,) = less, next(iter(less.values()))
    assert f"{section}.{key}" in memory.KEYS[item]


def test_generating_and_learning_take_turns() -> None:
    items = {"weights": 10, "cache": 4, "scores": 1, "rounded": 1, "activations": 3, "logits": 2, "gradients": 2}
    assert peak(items) == 10 + 7
    assert peak({**items, "cache": 8}) == 10 + 10


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_architecture_has_an_estimate(kind: str) -> None:
    for lora in (0, 4):
        items = estimate(config(kind), recipe(lora={"rank": lora}), F32)
        assert all(isinstance(size, int) and size >= 0 for size in items.values())
        assert items.keys() == memory.KEYS.keys()
    with pytest.raises(UserError, match=r"lora\.targets: 'nonsense'"):
        estimate(config(kind), recipe(lora={"rank": 4, "targets": ["nonsense"]}), F32)


def test_where_logits_are_changed_those_of_a_whole_micro_batch_are_counted() -> None:
    shape = {**SHAPE, "vocab_size": 150_000}
    asked = recipe(update={"micro_tokens": 4096}, rollout={"max_tokens": 128})
    for made, whole in (
        (Gemma2Config(**shape), True),  # final_logit_softcapping
        (GraniteConfig(**shape, logits_scaling=8.0), True),
        (GraniteConfig(**shape), False),  # 1 changes nothing
        (config(vocab_size=150_000), False),
    ):
        tokens = 4096 // 2 if whole else slice_tokens(150_000)
        assert estimate(made, asked, F32)["logits"] == 4 * tokens * 150_000 * FLOAT


def test_the_engine_generates_no_more_at_once() -> None:
    defaults = LocalEngine.__init__.__kwdefaults__
    assert (defaults["max_batch_rows"], defaults["max_batch_tokens"]) == (memory.WAVE_ROWS, memory.WAVE_TOKENS)


def test_the_engine_caches_what_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, asked = torch.device("cuda"), recipe(lora={"rank": 8})
    token, items = 36 * 2 * 8 * 128 * 2, estimate(qwen3_8b(), asked, BF16)
    beside = items["optimizer"] + items["scores"]  # the base is bfloat16, so there is neither a cast nor a reference

    def room(free: int | None, device: torch.device = gpu, *, learning: bool = True) -> int:
        monkeypatch.setattr(memory, "available", lambda device: free)
        return cached_tokens(qwen3_8b(), asked, BF16, device, learning=learning)

    assert room(beside + 2 * 5000 * token) == room(beside + 2 * 5000 * token, CPU) == 5000
    assert room(beside + 2 * 100_000 * token) == 100_000
    assert room(10**15) == room(None) == 1 << 20
    assert room(10**15, CPU) == room(None, CPU) == memory.WAVE_TOKENS  # more at once gain nothing there
    assert room(5) == memory.LEAST_CACHED
    whole = estimate(qwen3_8b(), recipe(), BF16)
    assert room(whole["casts"] + whole["scores"] + 2 * 5000 * token, learning=False) == 5000


def test_the_warning_names_the_keys_that_are_not_used_yet() -> None:
    line = shortage(qwen3_8b(), recipe(), BF16, 24 * GIB)
    assert line is not None
    assert line.startswith("memory: the run needs about 2")
    assert "GiB (activations " in line
    assert ", optimizer 56.4, weights 28.2, " in line
    keys = "update.micro_tokens, update.gradient_checkpointing, lora.rank"
    assert line.endswith(f"and 24.0 are free; consider {keys}")
    assert "\n" not in line
    saved = recipe(lora={"rank": 8}, update={"gradient_checkpointing": True, "micro_tokens": 16384})
    line = shortage(qwen3_8b(), saved, BF16, 4 * GIB)
    assert line is not None
    assert "update.micro_tokens" in line
    assert "lora.rank" not in line
    assert "gradient_checkpointing" not in line
    assert shortage(qwen3_8b(), recipe(), BF16, 2000 * GIB) is None


def test_it_warns_and_goes_on(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(memory, "available", lambda device: 1000)
    assert with_micro_tokens(config(), recipe(), F32, CPU).update.micro_tokens == memory.LEAST_TOKENS
    assert ["memory: the run needs about" in record.message for record in caplog.records] == [True]
    caplog.clear()
    for free in (None, 2**50):
        monkeypatch.setattr(memory, "available", lambda device, free=free: free)
        assert with_micro_tokens(config(), recipe(), F32, CPU).update.micro_tokens == memory.MICRO_TOKENS["cpu"]
    assert not caplog.records


def test_micro_batches_are_as_large_as_fits_and_as_large_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = peak(estimate(qwen3_8b(), recipe(update={"micro_tokens": 1024}), BF16))
    monkeypatch.setattr(memory, "available", lambda device: needed)
    assert with_micro_tokens(qwen3_8b(), recipe(), BF16, torch.device("cuda")).update.micro_tokens == 1024
    asked = recipe(update={"micro_tokens": 4096})
    assert with_micro_tokens(qwen3_8b(), asked, BF16, CPU) == asked


def test_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = available(CPU)
    assert found is not None
    assert 2**20 < found < 2**50
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (123, 456))
    assert available(torch.device("cuda")) == 123
    assert memory._free(tmp_path / "meminfo") is None
    (tmp_path / "meminfo").write_text("MemTotal:  9 kB\nMemAvailable:       7 kB\n")
    assert memory._free(tmp_path / "meminfo") == 7 * 1024


@pytest.mark.parametrize(
    "names",
    [
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ],
)
def test_a_control_group_may_leave_less(names: tuple[str, str, str], tmp_path: Path) -> None:
    assert memory._left(tmp_path) is None
    limit, used, counts = (tmp_path / name for name in names)
    limit.parent.mkdir(exist_ok=True)
    used.write_text("700\n")
    counts.write_text("anon 500\ninactive_file 150\n")
    limit.write_text("1000\n")
    assert memory._left(tmp_path) == 1000 - 700 + 150
    limit.write_text("max\n")
    assert memory._left(tmp_path) is None


MEASURE = """
import json, os, sys
from random import Random
import peft, torch
from transformers import AutoModelForCausalLM
sys.path.insert(0, sys.argv[2])
from learner.cases import CPU, rollout
from learner.test_memory_estimate import config
from groupwise.config import Recipe
from groupwise.learner.lora import attach
from groupwise.learner.memory import estimate, peak
from groupwise.learner.update import Learner

def now(key):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(key))

def two_updates(keys, shape):
    recipe, made, rng = Recipe.model_validate(keys), config(**shape), Random(0)
    model = AutoModelForCausalLM.from_config(made).eval()
    if recipe.lora.rank:
        attach(model, recipe.lora, 0)
    tokens = recipe.rollout.max_tokens
    learner = Learner(model, loss=recipe.loss, update=recipe.update, steps=9, temperature=1.0, max_tokens=tokens,
                      mask_cut=False, device=CPU, dtype=torch.float32)
    draw = lambda count: [rng.randrange(90) for _ in range(count)]
    for _ in range(2):
        learner.update([rollout(draw(128), draw(tokens)) for _ in range(recipe.rollout.batch_size)])
    return peak({**estimate(made, recipe, torch.float32), "cache": 0, "scores": 0})

torch.set_num_threads(1)
two_updates({"rollout": {"batch_size": 8, "max_tokens": 8}}, {})  # what is only needed once is there now
for keys, shape in json.loads(sys.argv[1]):
    if os.fork() == 0:
        before = now("VmRSS")
        said = two_updates(keys, shape)
        print(json.dumps([now("VmHWM") - before, said]), flush=True)
        os._exit(0)
    os.wait()
"""
SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "wide, few tokens": (
        {"update": {"micro_tokens": 256}, "rollout": {"batch_size": 2, "group_size": 2}},
        {"hidden_size": 768, "intermediate_size": 2048, "head_dim": 64},
    ),
    "deep, many tokens": (
        {"rollout": {"batch_size": 8}},
        {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 12, "head_dim": 16},
    ),
    "LoRA with a large vocabulary": (
        {"rollout": {"batch_size": 4, "group_size": 4}, "lora": {"rank": 8}, "loss": {"beta": 0.1}},
        {"hidden_size": 64, "vocab_size": 50000},
    ),
}


def test_it_is_right_within_a_factor_of_two() -> None:
    here = Path(__file__).parents[1]
    command = [sys.executable, "-c", MEASURE, json.dumps(list(SHAPES.values())), str(here)]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    for name, (measured, said) in zip(SHAPES, found, strict=True):
        assert measured > 64 * 2**20, f"{name}: too small to compare"
        assert said / 2 < measured < said * 2, f"{name}: {measured >> 20} MiB measured, {said >> 20} estimated"
