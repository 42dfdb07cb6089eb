"""The tree of groups over a whole run, put together from what each update said of its own (`groups.jsonl`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from groupwise.types import Floats, Ints

Key = tuple[str, int]  # level and id, which last as long as the run
GIVEN = ("domain", "task")  # levels whose groups the data name


@dataclass(frozen=True, kw_only=True)
class Node:
    """A group with its U updates: those in which it had rollouts."""

    key: Key
    label: str  # its domain, or the task that most of its rollouts had
    steps: Ints  # [U] rising
    counts: Ints  # [U] rollouts
    rewards: Floats  # [U] their mean
    children: tuple[Node, ...]  # by where they stood last, the largest first

    @property
    def rollouts(self) -> int:
        return int(self.counts.sum())

    def mean(self, chosen: slice) -> float:
        """Mean reward of the rollouts of some of its updates."""
        return float(np.average(self.rewards[chosen], weights=self.counts[chosen]))


def read_tree(rows: Sequence[Mapping[str, Any]]) -> tuple[Node, ...]:
    """The groups without a parent, the largest first; none where `rows` name no group."""
    seen: dict[Key, list[tuple[int, Mapping[str, Any]]]] = {}
    parents: dict[Key, Key | None] = {}
    for row in rows:
        above = dict(zip(row["names"][1:], row["names"], strict=False))
        for group in row["groups"]:
            key, parent = (group["level"], group["id"]), group["parent"]
            seen.setdefault(key, []).append((row["step"], group))
            parents[key] = None if parent is None else (above[group["level"]], parent)
    below: dict[Key | None, list[Key]] = {}
    for key, parent_key in parents.items():
        below.setdefault(parent_key if parent_key in seen else None, []).append(key)

    def made(keys: Iterable[Key]) -> tuple[Node, ...]:
        nodes = [_node(key, seen[key], made(below.get(key, []))) for key in keys]
        return tuple(sorted(nodes, key=lambda node: (-node.rollouts, node.key[1])))

    return made(below.get(None, []))


def walk(nodes: Iterable[Node]) -> Iterable[Node]:
    """All of them, each before its children."""
    for node in nodes:
        yield node
        yield from walk(node.children)


def _node(key: Key, history: Sequence[tuple[int, Mapping[str, Any]]], children: tuple[Node, ...]) -> Node:
    labels: Counter[str] = Counter()
    for _, group in history:
        labels[str(group["label"])] += group["rollouts"]
    return Node(
        key=key,
        label=labels.most_common(1)[0][0],
        steps=np.array([step for step, _ in history], np.int64),
        counts=np.array([group["rollouts"] for _, group in history], np.int64),
        rewards=np.array([group["reward"] for _, group in history], np.float64),
        children=children,
    )
