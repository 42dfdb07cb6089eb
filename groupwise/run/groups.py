"""The groups of each update on disk: one JSON object a line of `groups.jsonl`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from groupwise.run.disk import writing
from groupwise.run.metrics import read_metrics
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


def read_groups(path: Path) -> list[dict[str, Any]]:
    """The rows, oldest first; a last line cut short by a crash is left out."""
    return read_metrics(path)


def forget_groups(path: Path, step: int) -> None:
    """Remove the rows of updates after `step`, which a resumed run will make again."""
    kept = [row for row in read_groups(path) if row["step"] <= step]
    beside = path.with_suffix(".tmp")
    with writing(path):
        beside.write_text("".join(json.dumps(row) + "\n" for row in kept))
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
