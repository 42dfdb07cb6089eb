from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from groupwise.report.reading import Run, read_run
from groupwise.report.sections import curves, derived
from groupwise.report.sections.charts import Chart, Line, spans_decades
from groupwise.report.sections.curves import MOST_POINTS, all_groups, without_constants


def run_of(tmp_path: Path, rows: list[dict[str, Any]], recipe: str = "steps: 9", summary: Any = None) -> Run:
    (tmp_path / "recipe.yaml").write_text(recipe)
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if summary is not None:
        (tmp_path / "summary.json").write_text(json.dumps(summary))
    return read_run(tmp_path)


def charts(run: Run) -> dict[str, Chart]:
    return {chart.title: chart for group in all_groups(run) for chart in group.charts}


def test_every_metric_of_a_run_is_drawn_or_said(finished: Path) -> None:
    run = read_run(finished)
    built = curves.build(run)
    titles = {chart["title"] for group in built.context["groups"] for chart in group["charts"]}
    said = titles | {name for name, _ in built.context["constant"]}
    for title in ("Reward", "Accuracy", "Rewards by name", "Completion length", "Entropy", "Gradient norm", "Time",
                  "Clip fraction", "Mismatch", "Advantage", "Groups without variance", "Speed"):  # fmt: skip
        assert any(name.startswith(title) for name in said), title
    assert len(built.data) == sum(len(group["charts"]) for group in built.context["groups"])
    json.dumps(built.data, allow_nan=False)


def test_likeness_below_zero_is_within_its_chart(tmp_path: Path) -> None:
    found = charts(run_of(tmp_path, [{"step": step, "groups/icc": -0.1 * step} for step in (1, 2)]))
    assert found["Likeness within groups"].bounds == (None, None)


def test_a_half_life_of_zero_is_explained(tmp_path: Path) -> None:
    found = charts(run_of(tmp_path, [{"step": step, "history/half_life": 8.0 * (step > 1)} for step in (1, 2)]))
    assert "at 0 it does not fade" in found["Half-life of the past"].how


def test_every_chart_has_title_unit_and_reading(finished: Path) -> None:
    for group in all_groups(read_run(finished)):
        for chart in group.charts:
            assert chart.title
            assert chart.small or group.folded or (chart.unit and chart.how), chart.title


def test_a_new_metric_appears_by_itself(tmp_path: Path) -> None:
    rows = [{"step": step, "reward/mean": 0.1 * step, "curriculum/level": step} for step in range(1, 6)]
    [group] = [group for group in all_groups(run_of(tmp_path, rows)) if group.folded]
    assert [chart.title for chart in group.charts] == ["curriculum/level"]


def test_what_never_changes_is_said_not_drawn(tmp_path: Path) -> None:
    rows = [{"step": step, "groups/count": 16, "reward/mean": 0.1 * step} for step in range(1, 6)]
    kept, constant = without_constants(all_groups(run_of(tmp_path, rows)))
    assert constant == [("Groups (an update)", "16")]
    assert [chart.title for group in kept for chart in group.charts] == ["Reward"]


def test_accuracy_joins_evaluations_before_during_and_after(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"step": step, "accuracy": 0.1 * step} for step in range(1, 5)]
    rows[1]["eval/pass@1"] = 0.45
    run = run_of(tmp_path, rows, summary={"before": {"pass@1": 0.3}, "after": {"pass@1": 0.6}})
    chart = charts(run)["Accuracy"]
    training, held_out = chart.lines
    np.testing.assert_array_equal(chart.steps, [0, 1, 2, 3, 4])
    np.testing.assert_allclose(training.values, [np.nan, 0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(held_out.values, [0.3, np.nan, 0.45, np.nan, 0.6])


def test_dropped_rollouts_are_a_share_of_those_drawn_for_the_update(tmp_path: Path) -> None:
    rows = [
        {"step": 1, "rollouts/total": 8, "rollouts/dropped": 2, "rollouts/truncated": 0.25},
        {"step": 2, "rollouts/total": 24, "rollouts/dropped": 4, "rollouts/truncated": 0.5},
        {"step": 4, "rollouts/total": 40, "rollouts/dropped": 4, "rollouts/truncated": 0.5},  # its total is not known
    ]
    chart = charts(run_of(tmp_path, rows))["Rollouts that taught less"]
    shares = {line.label: line.values for line in chart.lines}
    np.testing.assert_allclose(shares["cut at the token limit"], [0.25, 0.5, 0.5])
    np.testing.assert_allclose(shares["dropped"], [0.25, 0.25, np.nan])


def test_time_adds_up_and_small_parts_go_together(tmp_path: Path) -> None:
    parts = {"generate": 0.5, "update": 0.4, "draw": 0.001, "group": 0.001, "score": 0.09}
    rows = [{"step": step, **{f"time/{k}": v for k, v in parts.items()}, "time/total": 9.0} for step in (1, 2, 3)]
    chart = charts(run_of(tmp_path, rows))["Time"]
    assert [line.label for line in chart.lines] == ["generate", "update", "score", "the rest"]
    np.testing.assert_allclose(np.sum([line.values for line in chart.lines], axis=0), sum(parts.values()))


def test_tasks_are_small_charts_on_one_scale_the_most_improved_first(tmp_path: Path) -> None:
    rows = [
        {"step": step, "tasks/a/reward": 0.5, "tasks/b/reward": 0.1 * step, "reward/mean": 0.3} for step in range(1, 10)
    ]
    made = derived.reward_by_task(run_of(tmp_path, rows))
    assert [chart.title for chart in made] == ["b", "a"]
    assert {chart.bounds for chart in made} == {(0.0, 1.0)}
    assert all(chart.small for chart in made)


@pytest.mark.parametrize(
    ("low", "high", "bounds"),
    [(0.0, 1.0, (0, 1)), (0.2, 1.1, (0, 1.2)), (-0.3, 0.1, (-0.3, 0.3)), (0.0, 0.0, (0, 1)), (3.0, 47.0, (0, 50))],
)
def test_the_common_scale_is_round(tmp_path: Path, low: float, high: float, bounds: tuple[float, float]) -> None:
    rows = [{"step": 1, "tasks/a/reward": low, "tasks/b/reward": high}]
    assert derived.reward_by_task(run_of(tmp_path, rows))[0].bounds == pytest.approx(bounds)


def test_a_long_run_is_averaged_into_stretches() -> None:
    values = np.arange(5_000.0)
    values[:10] = np.nan
    thin = curves.thinned(values)
    assert len(thin) == MOST_POINTS == len(curves.thinned_steps(np.arange(1, 5_001)))
    assert np.isnan(thin[0]) and thin[-1] == pytest.approx(4994.5)
    assert curves.thinned_steps(np.arange(1, 5_001))[-1] == 5_000


def test_a_limit_comes_from_the_recipe(tmp_path: Path) -> None:
    rows = [{"step": step, "policy/grad_norm": step / 3} for step in range(1, 5)]
    run = run_of(tmp_path, rows, recipe="update: {max_grad_norm: 0.7}")
    assert charts(run)["Gradient norm"].limit == ("update.max_grad_norm", 0.7)


def test_only_values_decades_apart_get_a_logarithmic_axis() -> None:
    assert spans_decades((Line(label="", values=np.array([1.0, 1.0, 1.0, 5e3])),))
    assert not spans_decades((Line(label="", values=np.array([1.0, 2.0, 100.0])),))
    assert not spans_decades((Line(label="", values=np.array([0.0, 1.0, 1e5])),))


def test_a_chart_is_told_in_words(tmp_path: Path) -> None:
    rows = [{"step": step, "policy/entropy": 1.0 - 0.1 * step} for step in range(10)]
    label = curves.chart_label(charts(run_of(tmp_path, rows))["Entropy"])
    assert label == "Entropy, nats a token. entropy: from 1 to 0.1."
