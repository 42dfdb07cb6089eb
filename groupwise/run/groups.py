"""The groups of each update on disk: one JSON object a line of `groups.jsonl`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from groupwise.run.disk import writing
from groupwise.types import Groups, Rollout


def write_groups(path: Path, step: int, groups: Groups, rollouts: Sequence[Rollout], level: str, reason: str) -> None:
    """Append update `step`: every group above the prompt with its parent, label, rollouts and mean reward.

    level, reason: which levels the advantages used, and why.
    """
    row = {
        "step": step,
        "names": list(groups.names),
        "level": level,
        "reason": reason,
        "groups": _nodes(groups, rollouts),
    }
    with writing(path), path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def read_groups(path: Path) -> Iterator[dict[str, Any]]:
    """The rows, oldest first, one at a time: all of a long run take gigabytes. A last line cut short is left out."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                row = json.loads(line)
            except ValueError:
                return
            yield row


def forget_groups(path: Path, step: int) -> None:
    """Remove the rows of updates after `step`, which a resumed run will make again."""
    beside = path.with_suffix(".tmp")
    with writing(path):
        with beside.open("w") as file:
            file.writelines(json.dumps(row) + "\n" for row in read_groups(path) if row["step"] <= step)
        beside.replace(path)


def _nodes(groups: Groups, rollouts: Sequence[Rollout]) -> list[dict[str, Any]]:
    rewards = np.array([r.reward for r in rollouts])
    nodes = []
    for column, name in enumerate(groups.names[:-1]):
        for number in np.unique(groups.levels[:, column]).tolist():
            inside = np.flatnonzero(groups.levels[:, column] == number)
            words = Counter(
                rollouts[i].prompt.domain if name == "domain" else rollouts[i].prompt.task for i in inside.tolist()
            )
            node = {"level": name, "id": number, "label": words.most_common(1)[0][0], "rollouts": len(inside)}
            parent = int(groups.levels[inside[0], column - 1]) if column else None
            nodes.append(node | {"parent": parent, "reward": round(float(rewards[inside].mean()), 4)})
    return nodes
