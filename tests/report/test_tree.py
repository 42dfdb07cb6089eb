from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from groupwise.report.tree import read_tree, walk
from groupwise.run.groups import read_groups, write_groups
from groupwise.types import Completion, Groups, Prompt, Rollout

NAMES = ["domain", "cluster@0.7", "prompt"]


def group(level: str, number: int, rollouts: int, reward: float, parent: int | None, label: str = "") -> dict[str, Any]:
    named = label or f"{level}-{number}"
    return {
        "level": level,
        "id": number,
        "label": named,
        "rollouts": rollouts,
        "parent": parent,
        "reward": reward,
    }


def row(step: int, *groups: dict[str, Any], names: Sequence[str] = NAMES) -> dict[str, Any]:
    return {"step": step, "names": names, "level": "learned", "reason": "", "groups": list(groups)}


def test_updates_of_a_group_are_put_together() -> None:
    rows = [
        row(1, group("domain", 0, 4, 0.5, None), group("cluster@0.7", 3, 4, 0.5, 0)),
        row(3, group("domain", 0, 2, 1.0, None), group("cluster@0.7", 3, 2, 1.0, 0)),
    ]
    [domain] = read_tree(rows).roots
    assert (domain.key, domain.label, domain.rollouts) == (("domain", 0), "domain-0", 6)
    np.testing.assert_array_equal(domain.steps, [1, 3])
    assert domain.mean(slice(None)) == pytest.approx((4 * 0.5 + 2 * 1.0) / 6)
    assert [child.key for child in domain.children] == [("cluster@0.7", 3)]
    assert [node.key[0] for node in walk([domain])] == ["domain", "cluster@0.7"]


def test_the_largest_come_first_and_levels_count_for_themselves() -> None:
    rows = [
        row(
            1,
            group("domain", 0, 2, 0.0, None),
            group("domain", 1, 6, 0.0, None),
            group("cluster@0.7", 0, 1, 0.0, 1),
            group("cluster@0.7", 1, 5, 0.0, 1),
            group("cluster@0.7", 2, 2, 0.0, 0),
        )
    ]
    roots = read_tree(rows).roots
    assert [node.key for node in roots] == [("domain", 1), ("domain", 0)]
    assert [child.key[1] for child in roots[0].children] == [1, 0]


def test_a_cluster_stands_where_it_stood_last_under_the_label_of_most_rollouts() -> None:
    parents = (group("domain", 0, 4, 0.0, None), group("domain", 1, 4, 0.0, None))
    rows = [
        row(1, *parents, group("cluster@0.7", 0, 4, 0.0, 0, "gcd")),
        row(2, *parents, group("cluster@0.7", 0, 3, 0.0, 1, "sum")),
    ]
    first, second = read_tree(rows).roots
    assert first.children == () and [child.label for child in second.children] == ["gcd"]


def test_a_group_whose_parent_is_nowhere_is_a_root() -> None:
    assert [node.key for node in read_tree([row(1, group("cluster@0.7", 5, 1, 0.0, 9))]).roots] == [("cluster@0.7", 5)]
    assert read_tree([]).roots == () == read_tree([row(1, names=["prompt"])]).roots


def test_what_a_run_writes_is_read(tmp_path: Path) -> None:
    levels = np.array([[0, 0, 0], [0, 0, 0], [0, 1, 1], [1, 2, 2]])
    said = Completion(token_ids=(1,), logprobs=(0.0,), text="", finish_reason="stop", policy_version=0)
    rollouts = [
        Rollout(
            prompt=Prompt(id=str(path[-1]), task=f"task-{path[1]}", domain=f"domain-{path[0]}", text=""),
            completion=said,
            reward=float(i),
        )
        for i, path in enumerate(levels.tolist())
    ]
    for step in (1, 2):
        write_groups(tmp_path / "g", step, Groups(levels=levels, names=tuple(NAMES)), rollouts, "flat", "why")
    large, small = read_tree(read_groups(tmp_path / "g")).roots
    assert (large.label, large.rollouts, large.mean(slice(None))) == ("domain-0", 6, 1.0)
    assert [(child.label, child.rollouts) for child in large.children] == [("task-0", 4), ("task-1", 2)]
    assert [child.label for child in small.children] == ["task-2"]


def test_a_long_run_takes_three_numbers_for_each_of_its_groups() -> None:
    updates, many = 300, 40
    tracemalloc.start()
    try:
        tree = read_tree(row(step, *(group("domain", i, 4, 0.5, None) for i in range(many))) for step in range(updates))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [len(node.steps) for node in tree.roots] == [updates] * many
    assert peak < 2 * 3 * 8 * updates * many
    assert (tree.last["step"], tree.used) == (updates - 1, {"learned": updates})
    assert "groups" not in tree.last
