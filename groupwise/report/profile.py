"""Where the time and the memory of the updates went, by phase: the rows of a profile, and its table for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from groupwise.report.words import MINUS, count

TOTAL = "total"
MEMORY = {"resident": "resident memory of the process", "cuda": "GPU memory allocated by torch"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A phase, or the total."""

    name: str
    depth: int  # 0: right in the update
    seconds: float  # an update, median
    share: float  # of all seconds
    idle: float  # share of the phase's seconds
    peak: float  # MiB
    growth: float  # MiB
    calls: float  # an update


def rows(profile: Mapping[str, Any]) -> list[Row]:
    """The phases of a profile.json, each behind the one around it; the total last."""
    phases = profile["phases"]
    return [_row(name, phase, profile, _depth(phases, name)) for name, phase in phases.items()] + [
        _row(TOTAL, profile["total"], profile, 0)
    ]


def updates(profile: Mapping[str, Any]) -> str:
    """Which updates were measured: `updates 3 to 12`."""
    first, last = profile["updates"]["first"], profile["updates"]["last"]
    return f"update {first}" if first == last else f"updates {count(first)} to {count(last)}"


def profile_table(profile: Mapping[str, Any]) -> Table:
    """The rows for a terminal of 80 columns."""
    table = Table(
        title=f"Where {updates(profile)} went",
        box=SIMPLE_HEAD,
        caption="seconds of the median update, without those indented below; idle: no processor used; "
        f"MiB of the {MEMORY[profile['memory']]}",
        caption_justify="left",
    )
    table.add_column("phase", no_wrap=True)
    for heading in ("seconds", "share", "idle", "peak MiB", "growth MiB", "calls"):
        table.add_column(heading, justify="right", no_wrap=True)
    *phases, total = (_cells(row) for row in rows(profile))
    for cells in phases:
        table.add_row(*cells)
    table.add_section()
    table.add_row(*total, style="bold")
    return table


def _row(name: str, phase: Mapping[str, Any], profile: Mapping[str, Any], depth: int) -> Row:
    made = profile["updates"]["last"] - profile["updates"]["first"] + 1
    return Row(
        name=name,
        depth=depth,
        seconds=phase["seconds_per_update"],
        share=phase["share"],
        idle=phase["idle_seconds"] / phase["seconds"] if phase["seconds"] else 0.0,
        peak=phase["peak_mib"],
        growth=phase["growth_mib"],
        calls=phase["calls"] / made,
    )


def _depth(phases: Mapping[str, Any], name: str) -> int:
    around = phases[name]["inside"]
    return 0 if around is None else 1 + _depth(phases, around)


def _cells(row: Row) -> tuple[str, ...]:
    growth = f"{row.growth:+,.1f}".replace("-", MINUS)
    return (
        "  " * row.depth + row.name,
        f"{row.seconds:.3f}",
        f"{row.share:.1%}",
        f"{row.idle:.0%}",
        f"{row.peak:,.0f}",
        growth,
        f"{row.calls:,.4g}",
    )
