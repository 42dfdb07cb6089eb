"""A run that is killed at any moment and resumed leaves what an uninterrupted one leaves, to the last bit."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from .conftest import Write
from .runs import Warm, differences, outcome, rows, wait_for

# Where a run may be when it is killed, in an order in which one run can meet them all: (place, call, when).
# Updates have four optimizer steps; every second update is saved, every third is followed by an evaluation.
PLACES = {
    "evaluated, nothing saved yet": ("groupwise.stages.grpo:Trainer.evaluate", 1, "after"),
    "in the very first checkpoint": ("os:fsync", 1, "before"),
    "generating update 2": ("groupwise.rollout.local:LocalEngine.generate", 3, "after"),
    "in the second epoch of update 1": ("torch.optim:AdamW.step", 3, "after"),
    "rollouts on disk, row not": ("groupwise.stages.grpo:write_rollouts", 2, "after"),
    "row on disk, checkpoint not": ("groupwise.run.metrics:MetricsWriter.write", 2, "after"),
    "checkpoint 2 in its place, older ones not removed": ("groupwise.run.checkpoint:_sync_folder", 1, "before"),
    "evaluating after update 3": ("groupwise.stages.evaluate:Evaluator.run", 1, "after"),
    "scoring update 4": ("groupwise.stages.collect:Collector.score", 2, "before"),
    "checkpoint 4 written but not renamed": ("os:fsync", 1, "before"),
    "restoring": ("groupwise.learner.update:Learner.load_state", 1, "after"),
    "all updates done": ("groupwise.stages.grpo:Trainer.deliver", 1, "before"),
    "model saved": ("groupwise.learner.policy:save_policy", 1, "after"),
    "summary written, report not": ("groupwise.stages.finish:write_report", 1, "before"),
}
PLAIN: dict[str, Any] = {"eval": {"every": 3}}


def finished(warm: Warm, folder: Path) -> dict[str, Any]:
    """The outcome of the recipe in `folder`, run without interruption."""
    ended = warm.run(folder, "train", "r.yaml")
    assert ended.code == 0, ended.err
    return outcome(folder / "runs" / "r")


@pytest.fixture(scope="module")
def plain(warm: Warm, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from .runs import write_recipe

    folder = tmp_path_factory.mktemp("plain")
    write_recipe(folder / "r.yaml", tiny, **PLAIN)
    return finished(warm, folder)


def test_two_runs_of_a_recipe_are_equal(warm: Warm, write: Write, tmp_path: Path, plain: dict[str, Any]) -> None:
    write(tmp_path, **PLAIN)
    assert differences(plain, finished(warm, tmp_path)) == []
    assert len(plain["rows"]) == 6
    assert len({row["loss"] for row in plain["rows"]}) == 6


def test_killed_at_each_place(warm: Warm, write: Write, tmp_path: Path, plain: dict[str, Any]) -> None:
    write(tmp_path, **PLAIN)
    run = tmp_path / "runs" / "r"
    words = ["train", "r.yaml"]
    for name, place in PLACES.items():
        ended = warm.run(tmp_path, *words, at=[(*place, "kill")])
        assert ended.code == -signal.SIGKILL, f"{name}: was never reached\n{ended.err}"
        words = ["train", "--resume", "runs/r"]
    assert not (run / "report.html").exists()
    ended = warm.run(tmp_path, *words)
    assert (ended.code, ended.out) == (0, "The run in runs/r is finished.\n")
    assert (run / "report.html").exists()
    assert differences(plain, outcome(run)) == []
    leftovers = [path.name for path in run.rglob("*") if path.name.endswith("tmp")]
    assert leftovers == []


@pytest.mark.parametrize("kills", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_any_moment(warm: Warm, write: Write, tmp_path: Path, kills: int) -> None:
    """Every update is saved, so that the run comes forward however often it is killed."""
    sections: dict[str, Any] = {"steps": 3 * kills, "checkpoint": {"every": 1}, "eval": {"every": 4}}
    for name in ("whole", "killed"):
        write(tmp_path / name, **sections)
    whole = finished(warm, tmp_path / "whole")

    run, chance = tmp_path / "killed" / "runs" / "r", random.Random(kills)
    words, seconds = ["train", "r.yaml"], sum(row["time/total"] for row in rows(tmp_path / "whole" / "runs" / "r"))
    killed = 0
    while killed < kills:
        running = warm.start(tmp_path / "killed", *words)
        before = rows(run)[-1]["step"] if words[1] == "--resume" and rows(run) else 0
        # the first times at any moment of the start-up, later some updates on, at any moment of an update
        if killed % 5:
            wait_for(lambda: rows(run) and rows(run)[-1]["step"] > before)
        time.sleep(chance.uniform(0, seconds / kills))
        running.signal(signal.SIGKILL)
        ended = running.wait()
        assert ended.code in (0, -signal.SIGKILL), ended.err
        if ended.code == 0:
            break
        killed += 1
        if (run / "recipe.yaml").exists():
            words = ["train", "--resume", "runs/r"]
    assert killed == kills, f"the run was over after {killed} kills"
    ended = warm.run(tmp_path / "killed", *words)
    assert ended.code == 0, ended.err
    assert differences(whole, outcome(run)) == []
