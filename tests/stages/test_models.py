"""Each of several architectures is trained, whole or by adapters, killed, resumed to the bit, and delivered."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from models import CONFIGS, save_model
from safetensors.torch import load_file

from groupwise.learner.policy import load_policy

from .runs import Warm, differences, finished, resumed, rows, write_recipe

CPU = torch.device("cpu")
SHORT: dict[str, Any] = {
    "steps": 2,
    "rollout": {"batch_size": 8},
    "update": {"epochs": 1, "minibatches": 1},
    "checkpoint": {"every": 1},
    "eval": {"prompts": 2},
    "loss": {"beta": 0.1},
}
KILLED = [("groupwise.learner.update:Learner.update", 2, "before", "kill")]
WAYS: dict[str, dict[str, Any]] = {"full": {}, "lora": {"lora": {"rank": 4}}}
COMMON = [("llama", "full"), ("qwen3", "full")]  # dense, all weights: like the model of all other tests here
GRID = [
    pytest.param(kind, way, id=f"{kind}-{way}", marks=[pytest.mark.slow] if (kind, way) in COMMON else [])
    for kind in CONFIGS
    for way in WAYS
]


@pytest.mark.parametrize(("kind", "way"), GRID)
def test_it_trains_and_resumes_to_the_bit(kind: str, way: str, warm: Warm, tmp_path: Path) -> None:
    model = save_model(kind, tmp_path / "source")
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        write_recipe(tmp_path / name / "r.yaml", model, **SHORT, **WAYS[way])
    whole = finished(warm, tmp_path / "whole")
    ended = warm.run(tmp_path / "killed", "train", "r.yaml", at=KILLED)
    assert ended.code == -signal.SIGKILL, ended.err
    assert differences(whole, resumed(warm, tmp_path / "killed")) == []

    run = tmp_path / "whole" / "runs" / "r"
    before, after = load_policy(str(model), CPU), load_policy(str(run / "model"), CPU)
    assert type(after.model) is type(before.model)
    assert max(row["policy/mismatch"] for row in rows(run)) < 1e-5
    assert rows(run)[1]["policy/kl"] != 0
    moved = {
        name
        for (name, a), b in zip(before.model.named_parameters(), after.model.parameters(), strict=True)
        if not torch.equal(a, b)
    }
    layers = {n for n, p in before.model.named_parameters() if n.endswith("_proj.weight")}
    if way == "full":
        assert moved >= layers | {"model.embed_tokens.weight", "model.norm.weight"}
        assert not (run / "adapter").exists()
    else:
        assert moved == layers
        tensors = load_file(run / "adapter" / "adapter_model.safetensors")
        assert len(tensors) == 2 * len(layers)
        last = torch.load(run / "checkpoints" / "step-000002.pt", weights_only=True)["learner"]
        assert len(last["model"]) == len(last["optimizer"]["state"]) == 2 * len(layers)


def test_an_adapter_alone_is_a_model(warm: Warm, tmp_path: Path) -> None:
    """`lora.merge: false`, and its folder evaluated and trained on."""
    model = save_model("qwen3", tmp_path / "source", dtype="bfloat16")
    alone = {"rank": 4, "merge": False, "targets": ["q_proj", "v_proj"]}
    for name, source in (("first", model), ("second", tmp_path / "first" / "runs" / "r" / "model")):
        (tmp_path / name).mkdir()
        write_recipe(tmp_path / name / "r.yaml", source, **SHORT, lora=alone)
        ended = warm.run(tmp_path / name, "train", "r.yaml")
        assert ended.code == 0, ended.err
    made = tmp_path / "first" / "runs" / "r" / "model"
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= {p.name for p in made.iterdir()}
    assert not (made / "config.json").exists()
    last = load_policy(str(tmp_path / "second" / "runs" / "r" / "model"), CPU)
    assert last.dtype == torch.bfloat16
    ended = warm.run(tmp_path / "first", "eval", "runs/r", "--json")
    assert ended.code == 0, ended.err


def test_a_target_that_does_not_exist_is_told_before_the_run(warm: Warm, tmp_path: Path) -> None:
    write_recipe(tmp_path / "r.yaml", save_model("qwen3_moe", tmp_path / "source"), lora={"rank": 4, "targets": ["w1"]})
    ended = warm.run(tmp_path, "train", "r.yaml")
    assert ended.code == 2
    assert ended.err.splitlines()[-1].endswith(
        "lora.targets: 'w1' is no linear layer of Qwen3MoeForCausalLM; there are: q_proj, k_proj, v_proj, o_proj, "
        "gate_up_proj, down_proj"
    )
