from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from groupwise.report.reading import Run, read_run
from groupwise.report.sections import baselines

from .test_curves import run_of
from .test_tree import row

CLUSTERS = "advantage: {kind: hierarchical}\ngrouping: {kind: clusters, fallback: true}"


def updates(count: int, **errors: float) -> list[dict[str, Any]]:
    """The first knows no more than the mean of the batch; later ones vary by a common factor."""
    known = {"hierarchical": 0.2, "global": 0.2, "prompt": 0.2, "flat": 0.2, "random": 0.2} | errors
    rng = np.random.default_rng(3)
    rows = [{"step": 1, **{f"baseline/error/{name}": 0.9 for name in known}}]
    for step in range(2, count + 1):
        chance = rng.uniform(0.9, 1.1)
        rows.append({"step": step, **{f"baseline/error/{name}": error * chance for name, error in known.items()}})
    return rows


def run_with(tmp_path: Path, rows: list[dict[str, Any]], recipe: str = CLUSTERS, **last: str) -> Run:
    named = [row(step, names=["domain", "cluster@0.7", "prompt"]) | last for step in range(1, len(rows) + 1)]
    (tmp_path / "groups.jsonl").write_text("".join(json.dumps(one) + "\n" for one in named))
    return run_of(tmp_path, rows, recipe=recipe)


def test_shares_add_up_to_one_once_any_variance_is_known(tmp_path: Path) -> None:
    rows = [
        {"step": 1, "variance/domain": 0.0, "variance/prompt": 0.0, "variance/within": 0.0},
        {"step": 2, "variance/domain": 0.1, "variance/prompt": 0.0, "variance/within": 0.3},
        {"step": 3, "variance/domain": -0.1, "variance/prompt": 0.1, "variance/within": 0.1},
    ]
    chart = baselines.shares(run_of(tmp_path, rows))
    assert chart is not None and chart.stacked
    assert [(line.label, line.role) for line in chart.lines] == [
        ("domain", "main"),
        ("prompt", "second"),
        ("within", "reference"),
    ]
    shares = np.array([line.values for line in chart.lines])
    np.testing.assert_allclose(shares, [[np.nan, 0.25, 0.0], [np.nan, 0.0, 0.5], [np.nan, 0.75, 0.5]])
    assert baselines.shares(run_of(tmp_path, rows[:1])) is None
    assert baselines.shares(run_of(tmp_path, [])) is None


def test_a_running_mean_is_the_mean_at_first_and_forgets_the_past() -> None:
    values = np.array([np.nan, 1.0, np.nan, 3.0])
    np.testing.assert_allclose(baselines.running_mean(values), [np.nan, 1.0, 1.0, (0.95 + 3) / 1.95])
    np.testing.assert_allclose(baselines.running_mean(np.full(9, 0.4)), 0.4)
    assert baselines.running_mean(np.r_[np.zeros(200), np.ones(200)])[-1] > 0.999


def test_errors_are_shown_from_the_update_on_that_knew_something(tmp_path: Path) -> None:
    chart = baselines.errors(run_of(tmp_path, updates(4, hierarchical=0.1, random=0.15, flat=0.12)))
    assert chart is not None and chart.settled
    assert [line.label for line in chart.lines] == [
        "hierarchical",
        "no groups",
        "prompt mean",
        "batch mean",
        "random groups",
    ]
    assert all(np.isnan(line.values[0]) and line.values[1] < 0.3 for line in chart.lines)
    tie = {"step": 5, **{f"baseline/error/{line}": 0.3 for line in ("hierarchical", "global")}}
    np.testing.assert_array_equal(  # once known, a tie counts
        baselines.scored(run_of(tmp_path, [*updates(4, hierarchical=0.1), tie])), [False, True, True, True, True]
    )
    without_groups = baselines.errors(run_of(tmp_path, updates(4, hierarchical=0.1, random=0.1, flat=0.1)))
    assert without_groups is not None
    assert [line.label for line in without_groups.lines] == ["hierarchical", "prompt mean", "batch mean"]


def test_the_verdict_names_how_much_and_whether_clusters_are_used(tmp_path: Path) -> None:
    rows = updates(20, hierarchical=0.18, prompt=0.36)
    first, second = baselines.verdict(
        run_with(tmp_path, rows, level="flat", reason="clusters do not beat random ones (-0.3 standard errors)")
    )
    assert first.replace("\u202f", " ") == (
        "Grouping predicts rewards with an error 10.0 % below that of the plain batch mean and 50.0 % below "
        "that of each prompt's own mean."
    )
    assert second == (
        "The advantages do without the clusters: clusters do not beat random ones (\u22120.3 standard errors); "
        "they were used in 0 of 20 updates."
    )
    used = baselines.verdict(run_with(tmp_path, rows, level="learned", reason="they beat random ones"))
    assert used[1].startswith("The advantages use the clusters: they beat") and "in 20 of 20 updates" in used[1]


@pytest.mark.parametrize(
    ("errors", "words"),
    [
        ({"hierarchical": 0.22}, "10.0 % above that of the plain batch mean"),
        ({"hierarchical": 0.18, "prompt": 0.18}, "10.0 % below that of the plain batch mean."),
    ],
)
def test_a_loss_is_said_and_the_same_is_not(tmp_path: Path, errors: dict[str, float], words: str) -> None:
    [said] = baselines.verdict(run_of(tmp_path, updates(20, **errors), recipe="advantage: {kind: hierarchical}"))
    assert words in said.replace("\u202f", " ")
    assert said.startswith("The hierarchical baseline predicts")  # no row of groups names a level above the prompt


KERNEL = "advantage: {kind: hierarchical, transfer: kernel}"


def test_with_the_kernel_its_own_error_is_told_and_drawn(tmp_path: Path) -> None:
    rows = updates(20, hierarchical=0.22, kernel=0.1)
    del rows[0]["baseline/error/kernel"]  # not known before the evidence is ready
    run = run_of(tmp_path, rows, recipe=KERNEL)
    [said] = baselines.verdict(run)
    assert said.replace("\u202f", " ").startswith(
        "The hierarchical baseline with the kernel predicts rewards with an error 50.0 % below that of the plain"
    )
    chart = baselines.errors(run)
    assert chart is not None
    assert [(line.label, line.role) for line in chart.lines[:2]] == [
        ("with the kernel", "main"),
        ("hierarchical", "main"),
    ]
    never_on = run_of(tmp_path, updates(4, hierarchical=0.22, kernel=0.22), recipe=KERNEL)
    chart = baselines.errors(never_on)
    assert chart is not None and "with the kernel" not in [line.label for line in chart.lines]
    assert baselines.verdict(never_on)[0].startswith("The hierarchical baseline predicts")


def test_with_the_threshold_the_tree_only_would_predict(tmp_path: Path) -> None:
    recipe = "advantage: {kind: hierarchical, transfer: threshold}\ngrouping: {kind: clusters, fallback: true}"
    [said] = baselines.verdict(
        run_with(tmp_path, updates(20, hierarchical=0.1), recipe, level="learned", reason="they beat random ones")
    )
    assert said.startswith("Grouping would predict rewards with an error")


def test_what_may_be_chance_is_not_called_a_gain(tmp_path: Path) -> None:
    [said] = baselines.verdict(run_of(tmp_path, updates(5, hierarchical=0.1, prompt=0.1), recipe="{}"))
    assert "about the same (\u221250.0\u202f% in 4 updates, no more than chance) as" in said
    rng = np.random.default_rng(0)
    rows = [
        {"step": s, "baseline/error/hierarchical": 0.2 + rng.normal(0, 0.1), "baseline/error/global": 0.2}
        for s in range(1, 60)
    ]
    [said] = baselines.verdict(run_of(tmp_path, rows))
    assert "no more than chance" in said and "would predict" in said


def test_without_evidence_there_is_no_verdict(tmp_path: Path, finished: Path) -> None:
    assert baselines.verdict(run_of(tmp_path, updates(1))) == ["It is too early to say which baseline predicts best."]
    assert baselines.errors(run_of(tmp_path, updates(1))) is None
    assert baselines.verdict(run_of(tmp_path, [{"step": 1, "loss": 0.1}])) == []
    assert len(baselines.verdict(read_run(finished))) == 2
