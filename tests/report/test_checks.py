from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from groupwise.report.sections import checks

from .test_curves import run_of


def findings(tmp_path: Path, rows: list[dict[str, Any]], **more: Any) -> list[str]:
    section = checks.build(run_of(tmp_path, rows, **more))
    assert section is not None
    return list(section.context["found"])


def rows(**last: float | None) -> list[dict[str, Any]]:
    """Twenty sound updates, the last five with the values given."""
    sound = {
        "loss": 0.01, "reward/mean": 0.2, "rollouts/dropped": 0, "rollouts/truncated": 0.01, "policy/entropy": 1.0,
        "groups/zero_variance": 0.1, "policy/clip_fraction": 0.01, "policy/grad_norm": 0.4,
    }  # fmt: skip
    named = {key.replace("__", "/"): value for key, value in last.items()}
    made = []
    for step in range(1, 21):
        row: dict[str, Any] = {"step": step, "rollouts/total": 10 * step, **sound}
        row["reward/mean"] = 0.01 * step
        made.append(row | named if step > 15 else row)
    return made


def test_a_sound_run_has_no_findings(tmp_path: Path) -> None:
    assert findings(tmp_path, rows(), recipe="update: {max_grad_norm: 1.0}") == []


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ({"reward__mean": 0.0}, "reward has not risen"),
        ({"rollouts__dropped": 3}, "were dropped"),
        ({"rollouts__truncated": 0.4}, "were cut at the token limit"),
        ({"groups__zero_variance": 0.97}, "they teach nothing"),
        ({"policy__entropy": 0.01}, "Entropy fell from 1 to 0.01"),
        ({"policy__clip_fraction": 0.5}, "The clip stopped".lower()),
        ({"loss": None}, "loss of 5 updates is not a number"),
    ],
)
def test_each_trouble_is_found_alone(tmp_path: Path, last: dict[str, Any], words: str) -> None:
    [found] = findings(tmp_path, rows(**last))
    assert words in found


@pytest.mark.parametrize(
    ("advantage", "size", "share", "told"),
    [
        ("grpo", 8, 0.6, True),
        ("rloo", 2, 0.7, False),  # as with a pass rate of 20 %
        ("rloo", 2, 0.8, True),
        ("hierarchical", 2, 0.8, False),  # compared with other prompts too
        ("hierarchical", 1, 0.99, True),
    ],
)
def test_siblings_that_are_alike(tmp_path: Path, advantage: str, size: int, share: float, told: bool) -> None:
    recipe = f"advantage: {{kind: {advantage}}}\nrollout: {{group_size: {size}}}"
    assert bool(findings(tmp_path, rows(groups__zero_variance=share), recipe=recipe)) == told


def test_a_run_without_one_sound_loss_is_told(tmp_path: Path) -> None:
    assert findings(tmp_path, [{"step": step, "loss": None} for step in (1, 2, 3)]) == [
        "The loss of 3 updates is not a number."
    ]


def test_gradients_above_their_limit(tmp_path: Path) -> None:
    [found] = findings(tmp_path, rows(), recipe="update: {max_grad_norm: 0.1}")
    assert "scaled down in 100" in found


def test_missing_rows_and_lost_tasks(tmp_path: Path) -> None:
    summary = {
        "before": {"by_task": {"a": 0.5}},
        "after": {"by_task": {"a": 0.3}},
        "gain": {"by_task": {"a": -0.2}, "by_task_interval": {"a": [-0.3, -0.1]}},
    }
    made = [row for row in rows() if row["step"] != 7]
    assert findings(tmp_path, made, summary=summary) == [
        "Worse than before, beyond the interval: a.",
        "1 update left no row in metrics.jsonl.",
    ]


def test_what_was_not_recorded_is_not_asked(tmp_path: Path) -> None:
    section = checks.build(run_of(tmp_path, [{"step": 1, "loss": 0.1}]))
    assert section is not None
    assert section.context["asked"] == ["every loss a number", "every update recorded"]
    assert checks.build(run_of(tmp_path, [])) is None
