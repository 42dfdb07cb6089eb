"""The comparison before and after for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from groupwise.report.gains import Gain, Rate, by_task, overall
from groupwise.report.words import MINUS, points

EN_DASH, TO = "\u2013", " to "
MARKS = {"gain": ("\u2713", "green"), "loss": ("\u25bc", "red"), "level": ("", ""), "unknown": ("", "")}


def before_after_table(summary: Mapping[str, Any]) -> Table:
    """Held-out pass@1 by task; a tick or a triangle where a gain or a loss lies beyond its 95 % interval."""
    table = Table(
        title="Held-out pass@1",
        box=SIMPLE_HEAD,
        caption="95 % intervals; \u2713 gain, \u25bc loss beyond its interval",
        caption_justify="left",
    )
    table.add_column("task", no_wrap=True)
    for heading in ("before", "after", "gain, points"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for row in by_task(summary):
        table.add_row(*_cells(row))
    table.add_section()
    table.add_row(*_cells(overall(summary)), style="bold")
    return table


def _cells(row: Gain) -> tuple[Text, Text, Text, Text, Text]:
    mark, colour = MARKS[row.verdict]
    gain = Text(points(row.change.value), style=colour) if row.change else Text("\u2013")
    if row.change and row.change.interval:
        gain.append(f" ({_whole(row.change.interval, ' to ')})", style="dim")
    return Text(row.name), _rate(row.before), _rate(row.after), gain, Text(mark, style=colour)


def _rate(rate: Rate | None) -> Text:
    if rate is None:
        return Text("\u2013")
    text = Text(f"{rate.value:.1%}")
    return text.append(f" ({_whole(rate.interval, EN_DASH)})", style="dim") if rate.interval else text


def _whole(interval: tuple[float, float], between: str) -> str:
    """(.42, .469) -> 42 to 47: no decimals, so that the table fits a terminal of 80 columns."""
    return between.join(f"{end * 100:.0f}".replace("-", MINUS) for end in interval)
