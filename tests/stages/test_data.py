"""Runs on data sets of the user's own: killed, resumed, and refused in one line."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from .conftest import Write
from .runs import Warm, differences, finished, resumed, rollouts

# 20 prompts, of which updates draw 16: passes are begun and ended in the middle of updates
SECTIONS = {
    "tasks": [
        {
            "name": "sums",
            "data": {"path": "a.jsonl", "prompt": "{a} + 1?", "answer": "b", "domain": "kind", "held_out": 0},
        },
        {"name": "talk", "data": {"path": "b.jsonl", "held_out": 0.5, "system": "Add!"}},
    ],
    "rollout": {"group_size": 2, "max_tokens": 8},
}


def with_data(folder: Path) -> None:
    sums = [{"a": a, "b": a + 1, "kind": "even" if a % 2 else "odd"} for a in range(10)]
    talks = [{"prompt": [{"role": "user", "content": f"{a} + {a}?"}], "answer": str(a + a)} for a in range(20)]
    for name, records in (("a", sums), ("b", talks)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, records)))


def test_a_run_on_data_that_is_killed_goes_on_exactly(warm: Warm, write: Write, tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        write(tmp_path / name, **SECTIONS)
        with_data(tmp_path / name)
    place = ("torch.optim:AdamW.step", 15, "after")  # of update 4; the last checkpoint is of update 2
    assert warm.run(tmp_path / "killed", "train", "r.yaml", at=[(*place, "kill")]).code == -signal.SIGKILL
    whole = finished(warm, tmp_path / "whole")
    assert differences(whole, resumed(warm, tmp_path / "killed")) == []
    assert whole["summary"]["before"]["by_task"].keys() == {"talk"}  # nothing of the sums is held out
    drawn = [row for table in rollouts(tmp_path / "whole" / "runs" / "r").values() for row in table.to_pylist()]
    assert {row["domain"] for row in drawn} == {"even", "odd", "talk"}
    assert {row["prompt"] for row in drawn if row["task"] == "sums"} == {f"{a} + 1?" for a in range(10)}
    assert all(str(eval(row["prompt"].rstrip("?"))) == row["answer"] for row in drawn)


def test_data_that_do_not_do_are_told_in_one_line(warm: Warm, write: Write, tmp_path: Path) -> None:
    write(tmp_path, tasks=[{"name": "talk", "data": {"path": "b.jsonl", "prompt": "question"}}])
    with_data(tmp_path)
    ended = warm.run(tmp_path, "train", "r.yaml")
    assert ended.code == 2
    assert ended.err.splitlines()[-1] == (
        "groupwise: task talk: b.jsonl line 1: has no column `question`; it has: prompt, answer"
    )
