"""A run as a notebook shows it: what was gained by task, and the curves, in a few lines of HTML without scripts."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from groupwise.report import gains, reading
from groupwise.report.words import percent, points, points_span
from groupwise.types import Floats

CURVES = {"reward/mean": "reward", "accuracy": "accuracy", "completion/length_mean": "tokens a completion"}
WIDTH, HEIGHT = 260, 70  # pixels of one curve
COLOURS = {"gain": "#15803d", "loss": "#b91c1c", "level": "inherit", "unknown": "inherit"}


class Run:
    """The run in a folder, as it is on disk now; displays itself in a notebook.

    `Run("runs/demo").summary["after"]["pass@1"]` is what `summary.json` says; `metrics["reward/mean"]` [S] is a column
    of `metrics.jsonl`, one number an update, nan where it was not recorded. UserError where the folder is no run.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._read = reading.read_run(self.path)

    @property
    def summary(self) -> Mapping[str, Any]:
        """What `summary.json` says; empty until the run is finished."""
        return self._read.summary

    @property
    def metrics(self) -> Mapping[str, Floats]:
        """Columns of `metrics.jsonl` by name."""
        return self._read.metrics

    def __repr__(self) -> str:
        whole = gains.overall(self.summary)
        change = f", held-out pass@1 {points(whole.change.value)} points" if whole.change else ""
        return f"Run({str(self.path)!r}: {self._read.steps_done} of {self._read.steps_asked} updates{change})"

    def _repr_html_(self) -> str:
        head = f"<b>{escape(self._read.name)}</b>: {self._read.steps_done} of {self._read.steps_asked} updates"
        curves = "".join(_curve(label, self._read.column(name)) for name, label in CURVES.items())
        rows = [*gains.by_task(self.summary), gains.overall(self.summary)] if self.summary else []
        return f"<div>{head}<div>{curves}</div>{_table(rows)}</div>"


def _curve(label: str, values: Floats) -> str:
    """One metric over the updates, with its last value; nothing where there are fewer than two."""
    seen = np.flatnonzero(np.isfinite(values))
    if len(seen) < 2:
        return ""
    shown = values[seen]
    low, span = float(shown.min()), float(np.ptp(shown)) or 1.0
    x = (seen - seen[0]) / (seen[-1] - seen[0]) * WIDTH
    y = HEIGHT - (shown - low) / span * (HEIGHT - 4) - 2
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return (
        f'<figure style="display:inline-block;margin:8px 16px 8px 0"><figcaption style="font-size:85%">{label} '
        f'{shown[-1]:.3g}</figcaption><svg width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{label}">'
        f'<polyline points="{line}" fill="none" stroke="#2563eb" stroke-width="1.5"/></svg></figure>'
    )


def _table(rows: list[gains.Gain]) -> str:
    rows = [row for row in rows if row.before or row.after]
    if not rows:
        return ""
    lines = [
        f"<tr><td style='text-align:left'>{escape(row.name)}</td><td>{percent(row.before.value) if row.before else ''}"
        f"</td><td>{percent(row.after.value) if row.after else ''}</td>"
        f"<td style='color:{COLOURS[row.verdict]}'>{_change(row.change)}</td></tr>"
        for row in rows
    ]
    head = "<tr><th>task</th><th>before</th><th>after</th><th>gain, points</th></tr>"
    return f"<table style='text-align:right'><caption>Held-out pass@1</caption>{head}{''.join(lines)}</table>"


def _change(change: gains.Rate | None) -> str:
    if change is None:
        return ""
    return points(change.value) + (f" ({points_span(change.interval)})" if change.interval else "")
