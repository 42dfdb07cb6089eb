"""Where the time and the memory went, where `--profile` had it measured."""

from __future__ import annotations

from groupwise.report import words
from groupwise.report.profile import MEMORY, Row, rows, updates
from groupwise.report.reading import Run
from groupwise.report.sections.base import Section


def build(run: Run) -> Section | None:
    if not run.profile:
        return None
    context = {
        "updates": updates(run.profile),
        "memory": MEMORY[run.profile["memory"]],
        "rows": [_said(row) for row in rows(run.profile)],
    }
    return Section(id="profile", title="Profile", context=context)


def _said(row: Row) -> dict[str, object]:
    """Words, and lengths of the bar in percent of its width."""
    return {
        "name": row.name,
        "depth": row.depth,
        "busy": round(row.share * (1 - row.idle) * 100, 2),
        "idle": round(row.share * row.idle * 100, 2),
        "seconds": f"{row.seconds:.3f}",
        "share": words.percent(row.share),
        "waits": words.percent(row.idle, 0),
        "peak": words.memory(row.peak),
        "growth": f"{row.growth:+,.1f}".replace("-", words.MINUS),
    }
