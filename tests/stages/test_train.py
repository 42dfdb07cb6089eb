"""The whole of a small run, through the real command line: what it prints and what it leaves."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from tiny import tiny_model

import groupwise
from groupwise.config import Recipe
from groupwise.recipes import load_recipe

from .conftest import Write
from .runs import Ended, Warm, command, rollouts, rows, summary, write_recipe
from .stage_rewards import digits

REQUIRED = (  # DESIGN, section 2
    "step", "loss", "reward/mean", "rollouts/total", "rollouts/dropped", "policy/mismatch", "policy/grad_norm",
    "advantage/std", "groups/count", "groups/size_mean", "time/total",
    *(f"time/{step}" for step in ("draw", "generate", "score", "group", "estimate", "update", "record")),
)  # fmt: skip
REWARDS = [
    {"name": "digits", "function": "stage_rewards:digits", "weight": 2.0, "deadline": 60.0},
    {"name": "accuracy", "deadline": 60.0},
]
SECTIONS: dict[str, Any] = {"rewards": REWARDS, "eval": {"every": 4}, "rollout": {"max_tokens": 16}}


class Whole:
    """One run, made once; no test changes it."""

    def __init__(self, folder: Path, tiny: Path) -> None:
        self.folder, self.run = folder, folder / "runs" / "r"
        write_recipe(folder / "r.yaml", tiny, **SECTIONS)
        self.ended = command(folder, "train", "r.yaml", "--seed", "7")
        assert self.ended.code == 0, self.ended.err


@pytest.fixture(scope="module")
def whole(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return Whole(tmp_path_factory.mktemp("whole"), tiny)


def test_it_prints_progress_and_the_comparison(whole: Whole) -> None:
    out = whole.ended.out
    assert re.search(r"^before 16/16 ", out, re.MULTILINE)
    assert re.search(r"^update 6/6  reward -?\d\.\d+  accuracy 0.0%  [\d,]+ tokens/s$", out, re.MULTILINE)
    for family in ("easy", "hard"):
        assert re.search(rf"\b{family}\b.*0\.0 ?%.*0\.0 ?%", out)
    assert re.search(r"^96 rollouts, [\d,]+ tokens in \d+ s of training; 0 rollouts dropped.$", out, re.MULTILINE)
    assert "model   runs/r/model" in out
    assert "report  runs/r/report.html" in out
    assert "Traceback" not in whole.ended.err


def test_everything_is_in_its_place(whole: Whole) -> None:
    names = {path.name for path in whole.run.iterdir()}
    assert names >= {
        "recipe.yaml", "metrics.jsonl", "rollouts", "checkpoints", "model", "report.html", "summary.json",
    }  # fmt: skip
    assert not [path for path in whole.run.rglob("*") if path.name.endswith("tmp")]
    assert "<html" in (whole.run / "report.html").read_text()


def test_the_resolved_recipe(whole: Whole) -> None:
    recipe = load_recipe(Recipe, whole.run / "recipe.yaml", [])
    assert (recipe.seed, recipe.steps, recipe.loss.kind) == (7, 6, "dapo")  # overridden, written, default


def test_metrics(whole: Whole) -> None:
    found = rows(whole.run)
    assert [row["step"] for row in found] == [1, 2, 3, 4, 5, 6]
    for row in found:
        assert set(REQUIRED) <= set(row)
        assert all(isinstance(value, int | float) for value in row.values())
        assert row["policy/mismatch"] < 1e-3
        assert row["policy/grad_norm"] > 0
        assert row["time/total"] == pytest.approx(sum(v for k, v in row.items() if k.startswith("time/")) / 2)
        assert row["reward/mean"] == pytest.approx(2 * row["reward/digits/mean"] + row["reward/accuracy/mean"])
    assert [row["rollouts/total"] for row in found] == [16, 32, 48, 64, 80, 96]
    assert [row["step"] for row in found if "eval/pass@1" in row] == [4]
    assert {"eval/easy/pass@1", "eval/hard/pass@1"} <= set(found[3])


def test_every_metric_is_in_the_handbook(whole: Whole) -> None:
    text = (Path(groupwise.__file__).parents[1] / "docs" / "metrics.md").read_text()
    explained = set(re.findall(r"`([a-z]+[a-zA-Z_/@0-9]*)`", text))
    names = {re.sub(r"\b(digits|easy|hard|(?<=/)accuracy)\b", "NAME", name) for row in rows(whole.run) for name in row}
    names = {re.sub(r"^(variance|groups/share|baseline/error)/.*", r"\1/NAME", name) for name in names}
    names = {re.sub(r"^groups/\w+/count$", "groups/NAME/count", name) for name in names}
    assert names <= explained


def test_rollouts(whole: Whole) -> None:
    tables = rollouts(whole.run)
    assert list(tables) == [f"step-{step:06d}.parquet" for step in range(1, 7)]
    table = pq.read_table(whole.run / "rollouts")  # all at once, as a user would
    assert table.num_rows == 96
    for step, (row, part) in enumerate(zip(rows(whole.run), tables.values(), strict=True), start=1):
        records = part.to_pylist()
        assert {record["step"] for record in records} == {step}
        assert [record["rollout"] for record in records] == list(range(16))
        assert {record["policy_version"] for record in records} == {step - 1}
        assert sum(record["task"] == "easy" for record in records) == 8
        assert len({record["group"] for record in records}) == row["groups/count"] == 4
        rewards = [record["reward"] for record in records]
        assert sum(rewards) / 16 == pytest.approx(row["reward/mean"])
        for record in records:
            named = json.loads(record["rewards"])
            assert record["reward"] == pytest.approx(2 * named["digits"] + named["accuracy"])
            assert named["digits"] == digits(None, record["completion"])  # type: ignore[arg-type]
            assert 1 <= record["length"] <= 16
            assert record["dropped"] is None
            assert record["logprob_mean"] < 0
    by_group: dict[tuple[int, int], list[float]] = {}
    for record in table.to_pylist():
        by_group.setdefault((record["step"], record["group"]), []).append(record["advantage"])
    assert all(len(found) == 4 for found in by_group.values())


def test_the_last_checkpoints_are_kept(whole: Whole) -> None:
    assert sorted(path.name for path in (whole.run / "checkpoints").iterdir()) == ["step-000004.pt", "step-000006.pt"]


def test_the_model_is_one_for_transformers(whole: Whole, tiny: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(whole.run / "model")
    tokenizer = AutoTokenizer.from_pretrained(whole.run / "model")
    tokens = tokenizer.apply_chat_template(
        [{"role": "user", "content": "1 + 1"}], return_tensors="pt", return_dict=True
    )
    assert model.generate(**tokens, max_new_tokens=5, do_sample=False).shape[1] > tokens["input_ids"].shape[1]
    first = AutoModelForCausalLM.from_pretrained(tiny)
    assert not torch.equal(model.lm_head.weight, first.lm_head.weight)  # it has learned
    last = torch.load(whole.run / "checkpoints" / "step-000006.pt", weights_only=True)
    assert torch.equal(model.lm_head.weight, last["learner"]["model"]["lm_head.weight"])


def test_the_summary_keeps_its_contract(whole: Whole) -> None:
    found, table = summary(whole.run), pq.read_table(whole.run / "rollouts").to_pylist()
    for when in ("before", "after"):
        assert set(found[when]["by_task"]) == {"easy", "hard"}
        assert found[when]["pass@1"] == pytest.approx(sum(found[when]["by_task"].values()) / 2)
        assert "per_prompt" not in found[when]
    assert found["rollouts"] == 96 == rows(whole.run)[-1]["rollouts/total"]
    assert found["tokens"] == sum(record["length"] for record in table) == rows(whole.run)[-1]["tokens/total"]
    assert found["dropped_rollouts"] == 0
    assert found["train_seconds"] == pytest.approx(sum(row["time/total"] for row in rows(whole.run)))
    assert found["generate_seconds"] == pytest.approx(sum(row["time/generate"] for row in rows(whole.run)))
    assert found["update_seconds"] == pytest.approx(sum(row["time/update"] for row in rows(whole.run)))
    assert found["peak_memory_mib"] > 100


def agrees(ended: Ended, run: Path) -> None:
    """`eval --json` printed JSON and nothing else, and it is what the run measured at its end, to the last digit."""
    assert ended.code == 0, ended.err
    result = json.loads(ended.out)
    assert result.pop("model") == "runs/r/model"
    assert result == summary(run)["after"]


def test_eval_repeats_the_last_measurement(whole: Whole) -> None:
    agrees(command(whole.folder, "eval", "runs/r", "--json"), whole.run)


def test_eval_repeats_it_in_the_model_s_own_type_too(warm: Warm, write: Write, tmp_path: Path) -> None:
    """A bfloat16 model is trained in float32 and saved in bfloat16: what is measured is what is saved."""
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = tiny_model(tmp_path / "float32")
    AutoModelForCausalLM.from_pretrained(source).to(torch.bfloat16).save_pretrained(tmp_path / "small")
    AutoTokenizer.from_pretrained(source).save_pretrained(tmp_path / "small")
    write(
        tmp_path,
        model=tmp_path / "small",
        steps=2,
        tasks=[{"name": "chain_sum"}],
        eval={"prompts": 48},
        update={"learning_rate": 0.05},  # far enough for the rounding to change what is said
    )
    ended = warm.run(tmp_path, "train", "r.yaml")
    assert ended.code == 0, ended.err
    saved = load_file(tmp_path / "runs" / "r" / "model" / "model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.bfloat16}
    agrees(warm.run(tmp_path, "eval", "runs/r", "--json"), tmp_path / "runs" / "r")
    # the run itself goes on from what it learned, not from what it saved
    learned = torch.load(tmp_path / "runs" / "r" / "checkpoints" / "step-000002.pt", weights_only=True)
    weights = learned["learner"]["model"]["lm_head.weight"]
    assert weights.dtype == torch.float32
    assert not torch.equal(weights, weights.bfloat16().float())


def test_a_finished_run_says_so(whole: Whole, warm: Warm) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.run.rglob("*")}
    ended = warm.run(whole.folder, "train", "--resume", "runs/r")
    assert (ended.code, ended.out) == (0, "The run in runs/r is finished.\n")
    assert {path: path.stat().st_mtime_ns for path in whole.run.rglob("*")} == before


def test_a_fresh_run_moves_the_old_one_aside_and_says_so(warm: Warm, write: Write, tmp_path: Path) -> None:
    write(tmp_path, steps=1)
    for name in ("runs/r", "runs/r-1"):
        ended = warm.run(tmp_path, "train", "r.yaml")
        assert ended.code == 0, ended.err
        assert ("The earlier run in runs/r is now in runs/r-1." in ended.out) == (name == "runs/r-1")
    assert [len(rows(tmp_path / "runs" / name)) for name in ("r", "r-1")] == [1, 1]
    assert (tmp_path / "runs" / "r-1" / "summary.json").exists()


def test_resume_without_a_checkpoint_starts_at_the_beginning(warm: Warm, write: Write, tmp_path: Path) -> None:
    write(tmp_path, steps=1)
    before = [("groupwise.stages.grpo:Trainer.evaluate", 1, "before", "kill")]
    assert warm.run(tmp_path, "train", "r.yaml", at=before).code < 0
    assert sorted(path.name for path in (tmp_path / "runs" / "r").iterdir()) == ["recipe.yaml", "rewards.log"]
    ended = warm.run(tmp_path, "train", "--resume", "runs/r")
    assert ended.code == 0, ended.err
    assert [row["step"] for row in rows(tmp_path / "runs" / "r")] == [1]


def test_what_is_not_asked_for_is_not_written(warm: Warm, write: Write, tmp_path: Path) -> None:
    write(tmp_path, steps=1, run={"rollouts": False, "report": False, "dir": "here/it is"}, checkpoint={"every": 0})
    ended = warm.run(tmp_path, "train", "r.yaml")
    assert ended.code == 0, ended.err
    run = tmp_path / "here" / "it is"
    assert not (run / "rollouts").exists()
    assert not (run / "report.html").exists()
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-000000.pt", "step-000001.pt"]
    assert summary(run)["rollouts"] == 16
