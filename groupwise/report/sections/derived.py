"""Charts that put several metrics together: accuracy, rewards by name and task, lost rollouts, time."""

from __future__ import annotations

from typing import Any

import numpy as np

from groupwise.report.reading import Run
from groupwise.report.sections.charts import Chart, Line, Role
from groupwise.types import Floats, Ints

ROLES: tuple[Role, ...] = ("main", "second", "third", "fourth")
MOST_ROLES = len(ROLES)
ENDS = ("before", "after")
# Metrics that the charts of this file and of baselines.py show, and those that only the totals at the head show.
SHOWN = {"accuracy", "eval/pass@1", "rollouts/total", "tokens/total"} | {
    f"rollouts/{name}" for name in ("truncated", "dropped", "discarded")
}
SHOWN_PATTERN = r"reward/.+/mean|tasks/.+/reward|eval/.+/pass@1|time/.+|variance/.+|baseline/error/.+"
TINY = 0.02  # parts of the time below this share are put together


def names(run: Run, before: str, after: str) -> list[str]:
    """The middles of all metrics `before` NAME `after`."""
    return [
        key[len(before) : len(key) - len(after)]
        for key in run.metrics
        if key.startswith(before) and key.endswith(after) and len(key) > len(before) + len(after)
    ]


def accuracy(run: Run) -> Chart | None:
    """Training batches and held-out evaluations, with those before and after the run."""
    ends = [run.summary.get(key) or {} for key in ENDS]
    steps, held_out = _with_ends(run, "eval/pass@1", [end.get("pass@1") for end in ends])
    lines = []
    if "accuracy" in run.metrics:
        training = np.full(len(steps), np.nan)
        training[np.searchsorted(steps, run.steps)] = run.column("accuracy")
        lines.append(Line(label="training batch", values=training, role="main"))
    if np.isfinite(held_out).any():
        lines.append(Line(label="held out", values=held_out, role="second", points=True))
    if not lines:
        return None
    return Chart(
        title="Accuracy",
        unit="share of right answers",
        how="Held-out points ask the same prompts each time; if training pulls away, it learns by heart.",
        format="share",
        lines=tuple(lines),
        steps=steps,
        bounds=(0.0, 1.0),
    )


def rewards_by_name(run: Run) -> Chart | None:
    """Only where there are several rewards."""
    rewards = names(run, "reward/", "/mean")
    if len(rewards) < 2:
        return None
    return Chart(
        title="Rewards by name",
        unit="unweighted mean",
        how="One that rises while accuracy stands still is being gamed.",
        format="number",
        lines=tuple(
            Line(label=name, values=run.column(f"reward/{name}/mean"), role=ROLES[i % MOST_ROLES])
            for i, name in enumerate(rewards)
        ),
        steps=run.steps,
    )


def reward_by_task(run: Run) -> list[Chart]:
    """A small chart a task on one scale, the most improved first, each against the mean of all."""
    everything = run.column("reward/mean")
    columns = {task: run.column(f"tasks/{task}/reward") for task in names(run, "tasks/", "/reward")}
    if len(columns) < 2:
        return []
    low, high = _range(list(columns.values()))
    return [
        Chart(
            title=task,
            unit="",
            how="",
            format="number",
            lines=(
                Line(label=task, values=columns[task], role="main"),
                Line(label="all tasks", values=everything, role="reference"),
            ),
            steps=run.steps,
            bounds=(low, high),
            small=True,
        )
        for task in sorted(columns, key=lambda task: -rise(columns[task]))
    ]


def held_out_by_task(run: Run) -> list[Chart]:
    """Only where evaluations were made during the run: before and after alone are in the table."""
    tasks = names(run, "eval/", "/pass@1")
    ends = [(run.summary.get(key) or {}).get("by_task") or {} for key in ENDS]
    charts = []
    for task in tasks:
        steps, values = _with_ends(run, f"eval/{task}/pass@1", [end.get(task) for end in ends])
        _, everything = _with_ends(run, "eval/pass@1", [(run.summary.get(k) or {}).get("pass@1") for k in ENDS])
        charts.append(
            Chart(
                title=task,
                unit="",
                how="",
                format="share",
                lines=(
                    Line(label=task, values=values, role="second", points=True),
                    Line(label="all tasks", values=everything, role="reference", points=True),
                ),
                steps=steps,
                bounds=(0.0, 1.0),
                small=True,
            )
        )
    return sorted(charts, key=lambda chart: -rise(chart.lines[0].values))


def lost(run: Run) -> Chart | None:
    """Rollouts that were cut, dropped or discarded, as shares of those drawn for the update."""
    drawn = run.rollouts_by_step()
    shares: list[tuple[str, Floats]] = [("cut at the token limit", run.column("rollouts/truncated"))]
    shares += [(key, run.column(f"rollouts/{key}") / drawn) for key in ("dropped", "discarded")]
    lines = tuple(
        Line(label=label, values=values, role=ROLES[i])
        for i, (label, values) in enumerate(shares)
        if np.isfinite(values).any() and (i == 0 or np.nanmax(values) > 0)
    )
    if not lines:
        return None
    return Chart(
        title="Rollouts that taught less",
        unit="share of the update",
        how="Cut: too long. Dropped: failed or unscored, counted nowhere. Discarded: groups without variance.",
        format="share",
        lines=lines,
        steps=run.steps,
        bounds=(0.0, None),
    )


def time(run: Run) -> Chart | None:
    """Where the seconds of an update go; small parts together."""
    parts = {name: np.nan_to_num(run.column(f"time/{name}")) for name in names(run, "time/", "") if name != "total"}
    whole = sum((values.sum() for values in parts.values()), 0.0)
    if not whole:
        return None
    large = {name: values for name, values in parts.items() if values.sum() >= TINY * whole}
    rest = [values for name, values in parts.items() if name not in large]
    shown = dict(sorted(large.items(), key=lambda item: -item[1].sum()))
    if rest and np.sum(rest) > 0:
        shown["the rest"] = np.sum(rest, axis=0)
    return Chart(
        title="Time",
        unit="seconds an update",
        how="The height is the whole update, each band one step of it.",
        format="seconds",
        lines=tuple(
            Line(label=name, values=values, role="reference" if name == "the rest" else ROLES[i % MOST_ROLES])
            for i, (name, values) in enumerate(shown.items())
        ),
        steps=run.steps,
        stacked=True,
        wide=True,
        bounds=(0.0, None),
    )


def rise(values: Floats) -> float:
    """Mean of the last tenth less that of the first, over what was recorded."""
    first, last = ends(values)
    return last - first if np.isfinite(first) and np.isfinite(last) else float("-inf")


def ends(values: Floats) -> tuple[float, float]:
    """Means of the first and the last tenth of what was recorded; nan where nothing was."""
    seen = values[np.isfinite(values)]
    if not len(seen):
        return float("nan"), float("nan")
    tenth = max(1, len(seen) // 10)
    return float(seen[:tenth].mean()), float(seen[-tenth:].mean())


def _with_ends(run: Run, key: str, found: list[Any]) -> tuple[Ints, Floats]:
    """[S'] steps and values of a metric that evaluations before (as step 0) and after the run may complete."""
    values = {int(step): float(value) for step, value in zip(run.steps, run.column(key), strict=True)}
    before, after = found
    if before is not None:
        values[0] = float(before)
    if after is not None and run.steps_done:
        values[run.steps_done] = float(after)
    steps = sorted(values)
    return np.array(steps, dtype=np.int64), np.array([values[step] for step in steps])


def _range(columns: list[Floats]) -> tuple[float, float]:
    """A round scale that holds all values: from 0 up, or as far below 0 as above it."""
    values = np.concatenate(columns)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if low >= 0:
        return 0.0, 2 * _round_up(high / 2)
    most = _round_up(max(-low, high))
    return -most, most


def _round_up(value: float) -> float:
    if value <= 0:
        return 0.5
    size = 10.0 ** np.floor(np.log10(value))
    return float(size * min(step for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if size * step >= value * (1 - 1e-9)))
