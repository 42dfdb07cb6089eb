"""Groups on disk: every node above the prompts, and nothing of a future that a resumed run has left."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np

from groupwise.run.groups import forget_groups, read_groups, write_groups
from groupwise.types import Completion, Groups, Prompt, Rollout

SAID = Completion(token_ids=(1,), logprobs=(0.0,), text="", finish_reason="stop", policy_version=0)


def rollout(task: str, domain: str, reward: float) -> Rollout:
    return Rollout(prompt=Prompt(id=task, task=task, domain=domain, text="?"), completion=SAID, reward=reward)


ROLLOUTS = [rollout("gcd", "arithmetic", 1.0), rollout("gcd", "arithmetic", 0.0), rollout("syllogism", "logic", 1.0)]
GROUPS = Groups(levels=np.array([[0, 4, 0], [0, 5, 1], [1, 6, 2]]), names=("domain", "cluster", "prompt"))


def test_every_node_has_its_parent_label_size_and_reward(tmp_path: Path) -> None:
    write_groups(tmp_path / "groups.jsonl", 3, GROUPS, ROLLOUTS, "flat", "too early")
    (row,) = read_groups(tmp_path / "groups.jsonl")
    assert (row["step"], row["names"], row["level"], row["reason"]) == (3, [*GROUPS.names], "flat", "too early")
    arithmetic, logic, *clusters = row["groups"]
    assert arithmetic == {
        "level": "domain", "id": 0, "label": "arithmetic", "rollouts": 2, "parent": None, "reward": 0.5,
    }  # fmt: skip
    assert logic["label"] == "logic"
    assert [(node["id"], node["parent"], node["label"]) for node in clusters] == [
        (4, 0, "gcd"),
        (5, 0, "gcd"),
        (6, 1, "syllogism"),
    ]


def test_a_level_of_prompts_alone_has_no_nodes(tmp_path: Path) -> None:
    alone = Groups(levels=GROUPS.levels[:, -1:], names=("prompt",))
    write_groups(tmp_path / "groups.jsonl", 1, alone, ROLLOUTS, "learned", "")
    (row,) = read_groups(tmp_path / "groups.jsonl")
    assert row["groups"] == []


def test_what_comes_after_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "groups.jsonl"
    for step in (1, 2, 3):
        write_groups(path, step, GROUPS, ROLLOUTS, "flat", "")
    forget_groups(path, 2)
    assert [row["step"] for row in read_groups(path)] == [1, 2]
    forget_groups(tmp_path / "none.jsonl", 0)
    assert list(read_groups(tmp_path / "none.jsonl")) == []


def test_a_last_line_cut_short_is_left_out_and_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "groups.jsonl"
    for step in (1, 2):
        write_groups(path, step, GROUPS, ROLLOUTS, "flat", "")
    whole = path.read_bytes()
    for cut in (1, 10, len(whole) // 2 - 1):
        path.write_bytes(whole[:-cut])
        assert [row["step"] for row in read_groups(path)] == ([1, 2] if cut == 1 else [1])
        forget_groups(path, 2)
        assert path.read_bytes() == (whole if cut == 1 else whole[: len(whole) // 2])


def test_a_long_past_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "groups.jsonl"
    row = {"names": ["task", "prompt"], "groups": [{"level": "task", "id": i, "reward": 0.5} for i in range(40)]}
    path.write_text("".join(json.dumps({"step": step} | row) + "\n" for step in range(400)))
    tracemalloc.start()
    try:
        forget_groups(path, 399)
        assert sum(len(row["groups"]) for row in read_groups(path)) == 400 * 40
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < path.stat().st_size / 4
