"""What goes wrong costs what it must and no more: some rollouts, or one clear line, never the run's memory."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tiny import tiny_model

from groupwise.types import Prompt

from .conftest import Write
from .runs import PLAIN, Ended, Warm, command, differences, finished, resumed, reward, rows, summary, wait_for
from .stage_rewards import chance


def refused(ended: Ended) -> str:
    """The one line on stderr, without its prefix."""
    assert ended.code == 2, ended.err
    assert ended.err.startswith("groupwise: ")
    assert ended.err.count("\n") == 1
    return ended.err.removeprefix("groupwise: ").strip()


def records(run: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(run / "rollouts").to_pylist()
    return found


def luck(record: dict[str, Any]) -> int:
    """What `chance` said to the reward."""
    prompt = Prompt(id=record["prompt_id"], task="", domain="", text="")
    return chance(prompt, record["completion"])


def test_a_reward_that_hangs_costs_the_rollouts_it_hangs_on(warm: Warm, write: Write, tmp_path: Path) -> None:
    write(tmp_path, rewards=[reward("hangs", deadline=1.0)], steps=12)
    ended = warm.run(tmp_path, "train", "r.yaml")
    assert ended.code == 0, ended.err
    run = tmp_path / "runs" / "r"
    found = records(run)
    assert len(found) == 12 * 16
    hanging = [record for record in found if luck(record) < 2]
    assert hanging
    assert [record for record in found if record["dropped"]] == hanging
    for record in hanging:
        assert (record["dropped"], record["reward"]) == ("hangs: timeout after 1 s", None)
        assert (record["rewards"], record["group"], record["advantage"]) == ("{}", -1, 0)
    assert sum(row["rollouts/dropped"] for row in rows(run)) == len(hanging) == summary(run)["dropped_rollouts"]
    assert sum(row.get("rollouts/dropped/hangs", 0) for row in rows(run)) == len(hanging)
    assert rows(run)[-1]["rollouts/total"] == 12 * 16
    for row in rows(run):
        scored = [record["reward"] for record in found if record["step"] == row["step"] and not record["dropped"]]
        assert row["reward/mean"] == pytest.approx(sum(scored) / len(scored))


def test_rewards_that_fail_on_some_rollouts(warm: Warm, write: Write, tmp_path: Path) -> None:
    names = ("raises", "not_a_number", "digits")
    write(tmp_path, rewards=[reward(name) for name in names], steps=2)
    ended = warm.run(tmp_path, "train", "r.yaml")
    assert ended.code == 0, ended.err
    found = records(tmp_path / "runs" / "r")
    for record in found:
        assert (record["reward"] is None) == (luck(record) < 20)
        assert record["dropped"] == ("raises: raised KeyError: 'no\\nnumber'" if luck(record) < 20 else None)
    assert 0 < sum(row.get("rollouts/dropped/raises", 0) for row in rows(tmp_path / "runs" / "r")) < 16


def test_when_all_rollouts_fail_the_update_can_be_repeated(warm: Warm, write: Write, tmp_path: Path) -> None:
    for name in ("whole", "failed"):
        write(tmp_path / name, rewards="fails_while_told", steps=4, checkpoint={"every": 0})
    third = ("groupwise.stages.collect:Collector.generate", 3, "before", f"touch {tmp_path}/failed/broken")
    line = refused(warm.run(tmp_path / "failed", "train", "r.yaml", at=[third]))
    assert line == (
        "every rollout of update 3 failed: "
        "fails_while_told raised ConnectionError: the judge is down (16 of 16)"
    )  # fmt: skip
    run = tmp_path / "failed" / "runs" / "r"
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step-000000.pt", "step-000002.pt"]
    assert refused(warm.run(tmp_path / "failed", "train", "--resume", "runs/r")) == line
    (tmp_path / "failed" / "broken").unlink()
    whole, repeated = finished(warm, tmp_path / "whole"), resumed(warm, tmp_path / "failed")
    assert whole.pop("checkpoints") == ["step-000000.pt", "step-000004.pt"]
    del repeated["checkpoints"]
    assert differences(whole, repeated) == []


def without(name: str) -> Callable[[Path], Path]:
    """The model folder less the files of that name."""

    def made(folder: Path) -> Path:
        for path in tiny_model(folder).glob(name):
            path.unlink()
        return folder

    return made


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "a misspelt task": (
        {"tasks": [{"name": "chain_summ"}]},
        r"task chain_summ: no reasoning-gym family 'chain_summ'; nearest names: chain_sum\b.*",
    ),
    "a task's misspelt parameter": (
        {"tasks": [{"name": "chain_sum", "params": {"max_term": 2}}]},
        r"task chain_sum: reasoning-gym refuses params \{'max_term': 2\}: .*max_term.*",
    ),
    "a misspelt reward": (
        {"rewards": "digts"},
        r"reward 'digts': stage_rewards has no function 'digts'; nearest names: digits",
    ),
    "more held-out prompts than there are": (
        {"eval": {"prompts": 300}},
        r"task easy: has only \d+ held-out prompts, eval.prompts asks for 300; widen its params or lower eval.prompts",
    ),
    "a folder without weights": (
        {"model": without("*.safetensors")},
        r"model: .*/model has a config.json but no weights \(\*.safetensors\)",
    ),
    "a folder without a config": (
        {"model": without("config.json")},
        r"model: .*/model has no config.json; it is not a Hugging Face model folder",
    ),
    "prompts longer than the context": (
        {"model": lambda folder: tiny_model(folder, context=16)},
        r"16 of 16 held-out prompts are longer than the 4 tokens that rollout.max_tokens 12 leaves of .* context",
    ),
    "a run below a file": ({"run": {"dir": "r.yaml/run"}}, r"run.dir: r.yaml/run cannot be written: Not a directory"),
}


@pytest.mark.parametrize(("sections", "expected"), MISTAKES.values(), ids=MISTAKES)
def test_a_user_s_mistake_is_one_line(
    warm: Warm, write: Write, tmp_path: Path, sections: dict[str, Any], expected: str
) -> None:
    if callable(sections.get("model")):
        sections = {**sections, "model": sections["model"](tmp_path / "model")}
    write(tmp_path, **sections)
    earlier = tmp_path / "runs" / "r"
    earlier.mkdir(parents=True)
    (earlier / "recipe.yaml").write_text("steps: 1\n")
    ended = warm.run(tmp_path, "train", "r.yaml")
    assert re.fullmatch(expected, refused(ended))
    assert "before" not in ended.out  # found before the first evaluation, which may take minutes
    assert rows(earlier) == []
    if "held-out" not in expected:  # then nothing has begun, and nothing has changed
        assert [path.name for path in earlier.parent.iterdir()] == ["r"]
        assert (earlier / "recipe.yaml").read_text() == "steps: 1\n"


def test_a_full_disk_ends_the_run_with_the_last_good_checkpoint(
    warm: Warm, write: Write, tmp_path: Path, plain: dict[str, Any]
) -> None:
    """No file may outgrow 200,000 bytes: enough for the first checkpoint, not for one with an optimizer's moments."""
    write(tmp_path, **PLAIN)
    line = refused(warm.run(tmp_path, "train", "r.yaml", largest_file=200_000))
    assert line == "checkpoint runs/r/checkpoints/step-000002.pt cannot be written: File too large"
    folder = tmp_path / "runs" / "r" / "checkpoints"
    assert [path.name for path in folder.iterdir()] == ["step-000000.pt"]
    assert refused(warm.run(tmp_path, "train", "--resume", "runs/r", largest_file=200_000)) == line
    assert differences(plain, resumed(warm, tmp_path)) == []


def test_damaged_files_of_a_crash(warm: Warm, write: Write, tmp_path: Path, plain: dict[str, Any]) -> None:
    """The newest checkpoint is cut short, and so is the last row of metrics: the checkpoint before serves."""
    write(tmp_path, **PLAIN)
    warm.run(tmp_path, "train", "r.yaml", at=[("groupwise.run.metrics:MetricsWriter.write", 3, "after", "kill")])
    run = tmp_path / "runs" / "r"
    newest = run / "checkpoints" / "step-000002.pt"
    newest.write_bytes(newest.read_bytes()[:100_000])
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "los')
    shutil.copytree(tmp_path, tmp_path / "twin")
    ended = warm.run(tmp_path / "twin", "train", "--resume", "runs/r", at=[("os:fsync", 1, "before", "kill")])
    (warning,) = ended.err.splitlines()
    assert re.fullmatch(r"checkpoint runs/r/.*/step-000002.pt cannot be read \(.*\); trying the one before", warning)
    assert differences(plain, resumed(warm, tmp_path)) == []


def test_a_run_whose_files_are_not_ours(warm: Warm, write: Write, tmp_path: Path) -> None:
    """Even root cannot write a file where a folder is."""
    write(tmp_path, steps=1)
    warm.run(tmp_path, "train", "r.yaml", at=[("groupwise.stages.grpo:Trainer.evaluate", 1, "before", "kill")])
    log = tmp_path / "runs" / "r" / "rewards.log"
    log.unlink()
    log.symlink_to(tmp_path / "nowhere" / "rewards.log")
    line = refused(warm.run(tmp_path, "train", "--resume", "runs/r"))
    assert line == "runs/r/rewards.log cannot be written: No such file or directory"


def test_two_processes_do_not_share_a_run(warm: Warm, write: Write, tmp_path: Path) -> None:
    write(tmp_path, steps=100000, eval={"prompts": 0})
    running = warm.start(tmp_path, "train", "r.yaml")
    wait_for(lambda: rows(tmp_path / "runs" / "r"))
    for words in (["r.yaml"], ["--resume", "runs/r"]):
        line = refused(command(tmp_path, "train", *words))
        assert line == "run.dir: another process is at work in runs/r; end it, or name another run.dir"
    running.signal(signal.SIGINT)
    running.wait()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["r"]
