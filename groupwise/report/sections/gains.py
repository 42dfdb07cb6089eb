"""Before and after by task: a table whose middle column is the chart."""

from __future__ import annotations

from groupwise.report import words
from groupwise.report.gains import Gain, Rate, by_task, overall
from groupwise.report.reading import Run
from groupwise.report.sections.base import Section

SAID = {
    "gain": "gain beyond its interval",
    "loss": "loss beyond its interval",
    "level": "change within its interval",
    "unknown": "no interval",
}


def build(run: Run) -> Section:
    tasks = by_task(run.summary)
    rows = [_row(overall(run.summary)), *map(_row, tasks)] if tasks else []
    counted = {kind: sum(task.verdict == kind for task in tasks) for kind in SAID}
    return Section(
        id="gains",
        title="Before and after",
        context={"rows": rows, "counted": counted, "unfinished": not run.finished, "extras": extras(run)},
    )


def extras(run: Run) -> list[tuple[str, str, str]]:
    """Other numbers of the two evaluations: label, before, after."""
    before, after = (run.summary.get(key) or {} for key in ("before", "after"))
    rows = []
    for key, label, show in (
        ("length_mean", "tokens a completion", words.number),
        ("truncated", "cut at the token limit", words.percent),
    ):
        if before.get(key) is not None and after.get(key) is not None:
            rows.append((label, show(before[key]), show(after[key])))
    return rows


def _row(gain: Gain) -> dict[str, object]:
    return {
        "name": gain.name,
        "domain": gain.domain,
        "verdict": gain.verdict,
        "said": SAID[gain.verdict],
        "before": _rate(gain.before),
        "after": _rate(gain.after),
        "change": words.points(gain.change.value) if gain.change else None,
        "change_span": words.points_span(gain.change.interval) if gain.change else "",
    }


def _rate(rate: Rate | None) -> dict[str, object] | None:
    """Words, and positions on the chart in percent of its width."""
    if rate is None:
        return None
    low, high = rate.interval or (rate.value, rate.value)
    return {
        "text": words.percent(rate.value),
        "span": words.percent_span(rate.interval),
        "at": round(rate.value * 100, 2),
        "low": round(low * 100, 2),
        "high": round(high * 100, 2),
    }
