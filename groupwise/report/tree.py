"""The tree of groups over a whole run, put together from what each update said of its own (`groups.jsonl`)."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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


@dataclass(frozen=True, kw_only=True)
class Tree:
    """The groups of a run, and what it said of their use."""

    roots: tuple[Node, ...]  # the groups without a parent, the largest first; none where no row names a group
    last: Mapping[str, Any]  # the last row less its groups; empty where there is no row
    used: Mapping[str, int]  # in how many updates the advantages used which level


def read_tree(rows: Iterable[Mapping[str, Any]]) -> Tree:
    """Put together rows that come one at a time; of a row no more is kept than three numbers a group."""
    seen: dict[Key, _Seen] = {}
    last: dict[str, Any] = {}
    used: Counter[str] = Counter()
    for row in rows:
        last = {name: value for name, value in row.items() if name != "groups"}
        used[row["level"]] += 1
        above = dict(zip(row["names"][1:], row["names"], strict=False))
        for group in row["groups"]:
            key = (group["level"], group["id"])
            if key not in seen:
                seen[key] = _Seen()
            found = seen[key]
            found.add(row["step"], group)
            parent = group["parent"]
            found.parent = None if parent is None else (above[group["level"]], parent)
    below: dict[Key | None, list[Key]] = {}
    for key, found in seen.items():
        below.setdefault(found.parent if found.parent in seen else None, []).append(key)

    def made(keys: Iterable[Key]) -> tuple[Node, ...]:
        nodes = [seen[key].node(key, made(below.get(key, []))) for key in keys]
        return tuple(sorted(nodes, key=lambda node: (-node.rollouts, node.key[1])))

    return Tree(roots=made(below.get(None, [])), last=last, used=used)


def walk(nodes: Iterable[Node]) -> Iterable[Node]:
    """All of them, each before its children."""
    for node in nodes:
        yield node
        yield from walk(node.children)


@dataclass
class _Seen:
    """A group so far."""

    parent: Key | None = None
    labels: Counter[str] = field(default_factory=Counter)  # rollouts under each
    steps: array[int] = field(default_factory=lambda: array("q"))
    counts: array[int] = field(default_factory=lambda: array("q"))
    rewards: array[float] = field(default_factory=lambda: array("d"))

    def add(self, step: int, group: Mapping[str, Any]) -> None:
        self.labels[str(group["label"])] += group["rollouts"]
        self.steps.append(step)
        self.counts.append(group["rollouts"])
        self.rewards.append(group["reward"])

    def node(self, key: Key, children: tuple[Node, ...]) -> Node:
        return Node(
            key=key,
            label=self.labels.most_common(1)[0][0],
            steps=np.frombuffer(self.steps, np.int64),
            counts=np.frombuffer(self.counts, np.int64),
            rewards=np.frombuffer(self.rewards, np.float64),
            children=children,
        )
