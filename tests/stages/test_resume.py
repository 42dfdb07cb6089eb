"""A run that is killed at any moment and resumed leaves what an uninterrupted one leaves, to the last bit."""

from __future__ import annotations

import random
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from .conftest import Write
from .runs import PLAIN, Warm, differences, finished, outcome, resumed, rows, summary, wait_for

# Where a run may be when it is killed, in an order in which one run can meet them all: (place, call, when).
PLACES = {
    "evaluated, nothing saved yet": ("groupwise.stages.grpo:Trainer.evaluate", 1, "after"),
    "half-way through the very first checkpoint": ("torch.serialization:_save", 1, "after"),
    "generating update 2": ("groupwise.rollout.local:LocalEngine.generate", 3, "after"),
    "in the second epoch of update 1": ("torch.optim:AdamW.step", 3, "after"),
    "rollouts on disk, row not": ("groupwise.stages.parts:write_rollouts", 2, "after"),
    "row on disk, checkpoint not": ("groupwise.run.metrics:MetricsWriter.write", 2, "after"),
    "checkpoint 2 in its place, older ones not removed": ("groupwise.run.checkpoint:sync", 1, "before"),
    "evaluating after update 3": ("groupwise.stages.evaluate:Evaluator.run", 1, "after"),
    "scoring update 4": ("groupwise.stages.collect:Collector.score", 2, "before"),
    "checkpoint 4 written but not renamed": (
        "os:fsync",
        7,
        "before",
    ),  # two updates' rollouts, two folders, groups and metrics come first
    "restoring": ("groupwise.learner.update:Learner.load_state", 1, "after"),
    "all updates done": ("groupwise.stages.grpo:Trainer.deliver", 1, "before"),
    "model saved": ("groupwise.learner.policy:save_policy", 1, "after"),
    "summary written, report not": ("groupwise.stages.finish:write_report", 1, "before"),
}
ALL_OPTIONS: dict[str, Any] = {
    "rewards": "has_a_nine",
    "rollout": {"zero_variance": "redraw", "overlong": "penalise", "overlong_buffer": 4, "max_tokens": 16},
    "advantage": {"kind": "rloo"},
    "loss": {"beta": 0.1, "kl": "k3", "old": "learner"},
    "update": {"warmup": 2, "schedule": "linear"},
}


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


def test_killed_under_many_options(warm: Warm, write: Write, tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        write(tmp_path / name, **ALL_OPTIONS)
    words = ["train", "r.yaml"]
    for place in (
        ("groupwise.stages.collect:Collector.generate", 5, "after"),
        ("torch.optim:AdamW.step", 10, "before"),
    ):
        assert warm.run(tmp_path / "killed", *words, at=[(*place, "kill")]).code == -signal.SIGKILL
        words = ["train", "--resume", "runs/r"]
    whole = finished(warm, tmp_path / "whole")
    assert differences(whole, resumed(warm, tmp_path / "killed")) == []
    assert sum(row["rollouts/rounds"] > 1 for row in whole["rows"]) > 0
    assert sum(row["rollouts/discarded"] for row in whole["rows"]) > 0


def last_step(run: Path) -> int:
    return max((row["step"] for row in rows(run)), default=0)


def has_passed(run: Path, step: int) -> bool:
    return last_step(run) > step or (run / "summary.json").exists()


@pytest.mark.parametrize(("kills", "steps"), [(5, 50), pytest.param(20, 600, marks=pytest.mark.slow)])
def test_killed_at_any_moment(warm: Warm, write: Write, tmp_path: Path, kills: int, steps: int) -> None:
    """Every update is saved, so that the run comes forward however often it is killed."""
    sections: dict[str, Any] = {"steps": steps, "checkpoint": {"every": 1}, "eval": {"every": 4}}
    for name in ("whole", "killed"):
        write(tmp_path / name, **sections)
    began = time.monotonic()
    whole = finished(warm, tmp_path / "whole")
    updates = summary(tmp_path / "whole" / "runs" / "r")["train_seconds"]
    rest = time.monotonic() - began - updates  # the start, mostly

    run, chance = tmp_path / "killed" / "runs" / "r", random.Random(kills)
    words = ["train", "r.yaml"]
    killed = done = 0
    while killed < kills:
        running = warm.start(tmp_path / "killed", *words)
        if killed % 5 == 0:
            time.sleep(chance.uniform(0, rest))
        else:
            wait_for(partial(has_passed, run, done))
            time.sleep(chance.uniform(0, 2 * updates / steps))
        running.signal(signal.SIGKILL)
        ended = running.wait()
        assert ended.code == -signal.SIGKILL, f"the run was over after {killed} kills\n{ended.err}"
        killed += 1
        done = last_step(run)
        if (run / "recipe.yaml").exists():
            words = ["train", "--resume", "runs/r"]
    assert differences(whole, resumed(warm, tmp_path / "killed")) == []
