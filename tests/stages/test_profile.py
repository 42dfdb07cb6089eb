"""`groupwise train --profile`: what it leaves, and that it changes nothing else."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from .conftest import Write
from .runs import PLAIN, Warm, differences, outcome, rows

INSIDE = {"generate": {"prefill", "decode"}, "update": {"forward", "backward", "optimizer", "weights"}}
OUTER = {"draw", "embed", "generate", "score", "group", "estimate", "update", "record", "other"}


def profile(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "profile.json").read_text())
    return found


def test_a_profiled_run_is_the_same_run(warm: Warm, write: Write, tmp_path: Path, plain: dict[str, Any]) -> None:
    write(tmp_path, **PLAIN)
    run = tmp_path / "runs" / "r"
    ended = warm.run(tmp_path, "train", "r.yaml", "--profile")
    assert ended.code == 0, ended.err
    assert differences(plain, outcome(run)) == []
    found = profile(run)
    phases = found["phases"]
    assert found["updates"] == {"first": 1, "last": 6}
    assert OUTER | INSIDE["generate"] | INSIDE["update"] <= set(phases)
    for outer, inner in INSIDE.items():
        assert {phases[name]["inside"] for name in inner} == {outer}
        seconds = sum(phase["seconds"] for name, phase in phases.items() if outer in (name, phase["inside"]))
        assert seconds == pytest.approx(sum(row[f"time/{outer}"] for row in rows(run)), rel=0.05, abs=0.05)
        assert phases[outer]["calls"] == 6
    assert found["total"]["seconds"] > sum(row["time/total"] for row in rows(run))
    assert phases["decode"]["peak_mib"] > 100
    assert "Where updates 1 to 6 went" in ended.out
    assert ended.out.endswith("profile runs/r/profile.json\n")
    assert 'id="profile"' in (run / "report.html").read_text()


def test_a_resumed_run_profiles_what_it_makes_itself(
    warm: Warm, write: Write, tmp_path: Path, plain: dict[str, Any]
) -> None:
    write(tmp_path, **PLAIN)
    scoring = ("groupwise.stages.collect:Collector.score", 5, "before", "kill")
    assert warm.run(tmp_path, "train", "r.yaml", at=[scoring]).code == -signal.SIGKILL
    ended = warm.run(tmp_path, "train", "--resume", "runs/r", "--profile")
    assert ended.code == 0, ended.err
    assert profile(tmp_path / "runs" / "r")["updates"] == {"first": 5, "last": 6}
    assert differences(plain, outcome(tmp_path / "runs" / "r")) == []


def test_what_was_measured_is_shown_although_the_run_is_interrupted(warm: Warm, write: Write, tmp_path: Path) -> None:
    write(tmp_path, eval={"prompts": 0})
    scoring = ("groupwise.stages.collect:Collector.score", 3, "before", "interrupt")
    ended = warm.run(tmp_path, "train", "r.yaml", "--profile", at=[scoring])
    assert ended.code == 130
    assert "Where updates 1 to 3 went" in ended.out
    assert not list((tmp_path / "runs" / "r").glob("*.tmp"))


def test_without_the_word_there_is_no_profile(plain: dict[str, Any], warm: Warm, write: Write, tmp_path: Path) -> None:
    write(tmp_path, steps=1, eval={"prompts": 0})
    ended = warm.run(tmp_path, "train", "r.yaml")
    assert ended.code == 0, ended.err
    assert "profile" not in ended.out
    assert not (tmp_path / "runs" / "r" / "profile.json").exists()
    assert 'id="profile"' not in (tmp_path / "runs" / "r" / "report.html").read_text()
