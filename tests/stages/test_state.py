"""The checkpoint holds all that an update depends on, under every option that has state or draws at random."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_model

from groupwise.stages.grpo import Trainer

from .inside import train_inside
from .runs import as_bytes, differences, of_this_machine, rollouts
from .stage_rewards import digits, has_a_nine

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "redraw": {"rollout": {"zero_variance": "redraw"}, "advantage": {"kind": "grpo"}},
    "drop": {"rollout": {"zero_variance": "drop"}, "advantage": {"kind": "rloo"}},
    "k1 in the reward": {"loss": {"beta": 0.1, "kl": "k1"}},
    "k3 in the loss": {"loss": {"beta": 0.1, "kl": "k3"}},
    "old log-probs by the learner": {"loss": {"old": "learner"}},
    "overlong penalised": {"rollout": {"overlong": "penalise", "overlong_buffer": 4}},
    "overlong masked": {"rollout": {"overlong": "mask"}},
    "warm-up, then cosine": {"update": {"warmup": 2, "schedule": "cosine", "weight_decay": 0.1}},
    "top-p and top-k": {"rollout": {"top_p": 0.9, "top_k": 40, "temperature": 0.7}},
    "clusters": {"grouping": {"kind": "clusters", "memory_mib": 1000}},
    "one completion a prompt, with transfer": {
        "grouping": {"kind": "clusters", "memory_mib": 1000},
        "advantage": {"transfer": "kernel"},
        "rollout": {"group_size": 1},
    },
    "no history": {"advantage": {"history": 0}},
    "spo": {"advantage": {"kind": "spo"}},
    "ebpo": {"advantage": {"kind": "ebpo"}},
    "the articles' groups": {
        "grouping": {"kind": "first_match", "memory_mib": 1000},
        "advantage": {"kind": "group_mean"},
    },
    "the global baseline, scaled": {"advantage": {"kind": "global", "scale": "batch"}, "loss": {"kind": "dr_grpo"}},
    "unequal weights": {"tasks": [{"name": "chain_sum", "weight": 2}, {"name": "gcd"}]},
}


def disturb(number: int) -> None:
    """Random numbers that are anybody's are not ours: a run must not draw from them."""
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


def steps(trainer: Trainer, count: int) -> list[dict[str, float]]:
    every = [trainer.step() for _ in range(count)]
    return [{name: value for name, value in row.items() if not of_this_machine(name)} for row in every]


def state(trainer: Trainer) -> Any:
    return as_bytes([trainer.learner.state(), trainer.collector.state()])


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_restored_trainer_goes_on_as_the_first_one(tiny: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    mark = has_a_nine if "zero_variance" in options.get("rollout", {}) else digits
    disturb(1)
    first = train_inside(tmp_path / "first", tiny, mark, **options)
    whole = steps(first, 4)
    disturb(2)
    second = train_inside(tmp_path / "second", tiny, mark, **options)
    parts = steps(second, 2)
    second.checkpoint()
    steps(second, 1)  # what is lost in the crash
    disturb(3)
    third = train_inside(tmp_path / "second", tiny, mark, **options)
    third.restore()
    assert len(rollouts(tmp_path / "second")) == 2  # what came after the checkpoint is forgotten
    parts += steps(third, 2)
    assert differences(whole, parts) == []
    assert differences(state(first), state(third)) == []
    written = [{name: t.to_pydict() for name, t in rollouts(tmp_path / run).items()} for run in ("first", "second")]
    assert len(written[0]) == 4
    assert differences(*written) == []


def test_records_are_on_disk_before_the_checkpoint_that_follows_them(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut nobody would make them again."""
    synced: list[str] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    train_inside(tmp_path / "run", tiny, digits, steps=3, eval={"prompts": 0}).train()
    saved = [synced.index(f".step-{step:06d}.pt.tmp") for step in (0, 2, 3)]
    records = {"step-000001.parquet", "step-000002.parquet", "rollouts", "groups.jsonl", "metrics.jsonl", "run"}
    assert records <= set(synced[saved[0] : saved[1]])
    assert {"step-000003.parquet", "groups.jsonl", "metrics.jsonl"} <= set(synced[saved[1] : saved[2]])
    assert synced.count("step-000001.parquet") == 1


def test_dropout_is_off(tmp_path: Path) -> None:
    """It would draw from the global generator, and the policy that learns would not be the one that generated."""
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    source, model = tiny_model(tmp_path / "source"), tmp_path / "gpt2"
    torch.manual_seed(0)
    sizes = {"vocab_size": 110, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "eos_token_id": 1}
    GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=1, resid_pdrop=0.5)).save_pretrained(model)
    AutoTokenizer.from_pretrained(source).save_pretrained(model)
    every = []
    for seed in (1, 2):
        disturb(seed)
        every += steps(train_inside(tmp_path / str(seed), model, digits), 1)
    assert every[0]["policy/mismatch"] < 1e-3  # dropout would make it a hundred times as much
    assert differences(*every) == []


def test_updates_differ_from_each_other(tiny: Path, tmp_path: Path) -> None:
    """Or the comparison above would say little."""
    trainer = train_inside(tmp_path / "run", tiny, digits)
    rows = steps(trainer, 3)
    assert len({row["policy/grad_norm"] for row in rows}) == 3
    assert min(row["policy/grad_norm"] for row in rows) > 0
    texts = [tuple(table["completion"].to_pylist()) for table in rollouts(tmp_path / "run").values()]
    assert len(set(texts)) == 3
