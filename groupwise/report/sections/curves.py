"""The curves: everything that was recorded, update by update."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np

from groupwise.report import words
from groupwise.report.reading import Run
from groupwise.report.sections import charts as known
from groupwise.report.sections import derived
from groupwise.report.sections.base import Section
from groupwise.report.sections.charts import Chart, Format, Line, Plot
from groupwise.types import Floats, Ints

MOST_POINTS = 500  # a line; longer runs are averaged into this many stretches


@dataclass(frozen=True, kw_only=True)
class Group:
    """Charts under a common heading."""

    title: str
    how: str
    charts: tuple[Chart, ...]
    folded: bool = False  # shown when asked for


def build(run: Run) -> Section:
    if not len(run.steps):
        return Section(id="curves", title="Curves", context={"groups": []})
    groups, constant = without_constants(all_groups(run))
    numbers = count()
    context = {
        "groups": [
            {
                "title": group.title,
                "how": group.how,
                "folded": group.folded,
                "small": group.charts[0].small,
                "charts": [figure(chart, next(numbers)) for chart in group.charts],
            }
            for group in groups
        ],
        "constant": constant,
        "together": math.ceil(len(run.steps) / MOST_POINTS),
        "updates": len(run.steps),
    }
    return Section(
        id="curves",
        title="Curves",
        context=context,
        data=[chart_data(chart) for group in groups for chart in group.charts],
        scripts=("vendor/echarts.common.min.js", "charts.js"),
    )


def all_groups(run: Run) -> list[Group]:
    """Groups that have something to show, those of unknown metrics last."""
    learning = [*_plots(run, known.LEARNING), derived.accuracy(run), derived.rewards_by_name(run)]
    groups = [
        _group("Learning", "", learning),
        _group(
            "Reward by task",
            "One scale for all; grey is the mean of all tasks. The most improved come first.",
            derived.reward_by_task(run),
        ),
        _group(
            "Held-out accuracy by task",
            "The evaluations before, during and after the run; grey is the mean of all tasks.",
            derived.held_out_by_task(run),
        ),
        _group("Groups and advantages", "", _plots(run, known.GROUPS)),
        _group("Completions", "", [*_plots(run, known.COMPLETIONS), derived.lost(run)]),
        _group("The update", "", _plots(run, known.UPDATE)),
        _group("Machine", "", [derived.time(run), *_plots(run, known.MACHINE)]),
        Group(
            title="Other numbers",
            how="Recorded, too; docs/metrics.md says what they mean.",
            charts=tuple(other(run)),
            folded=True,
        ),
    ]
    return [group for group in groups if group.charts]


def other(run: Run) -> list[Chart]:
    """Metrics that no chart above shows, so that a new one appears by itself."""
    tables = (known.LEARNING, known.GROUPS, known.COMPLETIONS, known.UPDATE, known.MACHINE)
    shown = {key for table in tables for plot in table for key in plot.keys} | derived.SHOWN
    left = [key for key in run.metrics if key not in shown and not re.fullmatch(derived.SHOWN_PATTERN, key)]
    plots = [Plot(key, "", "", {key: key}, from_zero=False) for key in sorted(left)]
    return [chart for plot in plots if (chart := plot.chart(run))]


def without_constants(groups: Sequence[Group]) -> tuple[list[Group], list[tuple[str, str]]]:
    """Take out the charts whose lines never change: their title and value say as much."""
    constant: list[tuple[str, str]] = []
    kept = []
    for group in groups:
        charts = []
        for chart in group.charts:
            if len(chart.steps) > 2 and not chart.small and all(map(_is_constant, chart.lines)):
                name = " ".join(part for part in (chart.title, f"({chart.unit})" if chart.unit else "") if part)
                values = ", ".join(show(float(line.values[0]), chart.format) for line in chart.lines)
                constant.append((name, values))
            else:
                charts.append(chart)
        if charts:
            kept.append(replace(group, charts=tuple(charts)))
    return kept, constant


def figure(chart: Chart, number: int) -> dict[str, Any]:
    """The chart as the template frames it; `number` is its place in the section's data."""
    first, last = derived.ends(chart.lines[0].values)
    return {
        "number": number,
        "title": chart.title,
        "unit": chart.unit,
        "how": chart.how,
        "small": chart.small,
        "wide": chart.wide,
        "label": chart_label(chart),
        "first": show(first, chart.format),
        "last": show(last, chart.format),
    }


def chart_data(chart: Chart) -> dict[str, Any]:
    """The chart as the script draws it."""
    return {
        "format": chart.format,
        "stacked": chart.stacked,
        "settled": chart.settled,
        "small": chart.small,
        "log": chart.log,
        "limit": chart.limit,
        "bounds": chart.bounds,
        "steps": thinned_steps(chart.steps),
        "lines": [
            {
                "label": line.label,
                "role": line.role,
                "points": line.points,
                "values": [_compact(value) for value in thinned(line.values)],
            }
            for line in chart.lines
        ],
    }


def chart_label(chart: Chart) -> str:
    """The chart in words, for those who do not see it."""
    parts = [f"{chart.title}, {chart.unit}." if chart.unit else f"{chart.title}."]
    for line in chart.lines:
        first, last = derived.ends(line.values)
        if math.isfinite(first):
            parts.append(f"{line.label}: from {show(first, chart.format)} to {show(last, chart.format)}.")
    return " ".join(parts)


def show(value: float, as_format: Format) -> str:
    if as_format == "share":
        return words.percent(value)
    if as_format == "seconds":
        return words.duration(value)
    return words.number(value)


def thinned(values: Floats) -> Floats:
    """Means over as many equal stretches as are shown; nan where a stretch has no number."""
    if len(values) <= MOST_POINTS:
        return values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of an empty stretch
        return np.array([np.nanmean(part) for part in np.array_split(values, MOST_POINTS)])


def thinned_steps(steps: Ints) -> list[int]:
    """The last step of each stretch."""
    parts = np.array_split(steps, MOST_POINTS) if len(steps) > MOST_POINTS else steps[:, None]
    return [int(part[-1]) for part in parts]


def _plots(run: Run, plots: Sequence[Plot]) -> list[Chart | None]:
    return [plot.chart(run) for plot in plots]


def _group(title: str, how: str, charts: Sequence[Chart | None]) -> Group:
    return Group(title=title, how=how, charts=tuple(chart for chart in charts if chart is not None))


def _is_constant(line: Line) -> bool:
    seen = line.values[np.isfinite(line.values)]
    return len(seen) > 0 and len(seen) == len(line.values) and bool((seen == seen[0]).all())


def _compact(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None
