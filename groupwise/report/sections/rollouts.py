"""A browser of real rollouts: prompts with the completions that were compared with each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from groupwise.report.reading import Run
from groupwise.report.sampling import Row, sample_rollouts
from groupwise.report.sections.base import Section

CORRECT = 1 - 1e-6  # as the metric `accuracy` counts


def build(run: Run) -> Section:
    sample = sample_rollouts(run.rollout_files)
    groups = [_group(rows) for rows in sample.groups]
    advantages = sorted(abs(m["advantage"]) for g in groups for m in g["members"] if m["advantage"])
    context = {
        "shown": sample.shown,
        "groups": len(groups),
        "total": sample.rollouts,
        "unreadable": sample.unreadable,
        "kept": run.setting("run.rollouts") is not False,
        "tasks": sorted({group["task"] for group in groups}),
        "steps": (groups[0]["step"], groups[-1]["step"]) if groups else (0, 0),
    }
    if not groups:
        return Section(id="rollouts", title="Rollouts", context=context)
    return Section(
        id="rollouts",
        title="Rollouts",
        context=context,
        # colours are full at the 95th percentile
        data={"groups": groups, "advantage_full": advantages[len(advantages) * 95 // 100] if advantages else 1.0},
        scripts=("rollouts.js",),
    )


def _group(rows: Sequence[Row]) -> dict[str, Any]:
    """What the siblings share, and the siblings."""
    first = rows[0]
    return {
        "step": first["step"] or 0,
        "task": first["task"],
        "domain": first["domain"],
        "prompt": first["prompt"],
        "answer": first["answer"],
        "difficulty": _difficulty(first["difficulty"]),
        "members": [_member(row) for row in rows],
    }


def _member(row: Row) -> dict[str, Any]:
    rewards = row["rewards"] if isinstance(row["rewards"], dict) else {}
    accuracy = rewards.get("accuracy", next(iter(rewards.values()), row["reward"]))  # as the metric judges
    right = isinstance(accuracy, int | float) and accuracy >= CORRECT
    return {
        "rollout": row["rollout"],
        "completion": row["completion"],
        "outcome": "dropped" if row["dropped"] else "right" if right else "wrong",
        "reward": _short(row["reward"]),
        "rewards": {str(name): _short(value) for name, value in rewards.items()},
        "advantage": _short(row["advantage"]),
        "finish": row["finish_reason"],
        "length": row["length"],
        "logprob": _short(row["logprob_mean"]),
        "dropped": row["dropped"],
        "discarded": row["group"] == -1 and not row["dropped"],
    }


def _difficulty(value: Any) -> str:
    """{"num_terms": [2, 4]} -> num_terms 2\u20134."""
    if not isinstance(value, dict):
        return ""
    ranges = {
        key: f"{item[0]}\u2013{item[1]}" if isinstance(item, list) and len(item) == 2 else item
        for key, item in value.items()
    }
    return ", ".join(f"{key} {item}" for key, item in ranges.items())


def _short(value: Any) -> float | None:
    """Four significant digits are enough to read, and make the page smaller."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(f"{value:.4g}")
