"""`--report`: a picture and a table of each axis in the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pages
from compare_trl.pairs import QUIET
from compare_trl.report import describe

from scaling.axes import AXES, PHASES
from scaling.measure import results

IMAGES = pages.SPEED.parent / "images"
COLOURS = {"generate": "#3366cc", "update": "#cc6633"}


def report() -> None:
    found = {axis: points for axis in AXES if (points := results(axis))}
    if not found:
        raise SystemExit("there is no point yet; run benchmarks/scaling.py first")
    for axis, points in found.items():
        draw(axis, points, IMAGES / f"scaling-{axis}.png")
    pages.fill(pages.SPEED, "scaling", as_text(found))
    print(f"{sum(map(len, found.values()))} points are in {pages.SPEED.name}")


def as_text(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    parts = []
    for axis, points in found.items():
        header = (AXES[axis].label, "generate, s", "its floor, s", "MiB", "update, s", "its floor, s", "MiB", "others")
        parts += [
            f"### {AXES[axis].label[0].upper()}{AXES[axis].label[1:]}",
            f"![Seconds and memory by {AXES[axis].label}](images/scaling-{axis}.png)",
            pages.table(header, map(row, points)),
        ]
    machines = dict.fromkeys(describe(point["machine"]) for points in found.values() for point in points)
    parts.append("Machine: " + "; ".join(machines) + ".")
    if any(point["foreign"] >= QUIET for points in found.values() for point in points):
        parts.append(f"At points where others used {QUIET:.0%} of the machine or more, seconds say little.")
    return "\n\n".join(parts)


def row(point: Mapping[str, Any]) -> list[str]:
    cells = [f"{point['value']:,}"]
    for phase in PHASES:
        seconds, mib = point[f"{phase}_seconds"], point[f"{phase}_mib"]
        cells += [f"{seconds:.2f}", f"{floor(point, phase):.2f}", f"{mib:,.0f}"]
    return [*cells, f"{point['foreign']:.0%}"]


def floor(point: Mapping[str, Any], phase: str) -> float:
    """Seconds that the phase's operations take at the rate of the machine's fastest matrix products."""
    return float(point["operations"][phase] / (point["gflops"] * 1e9))


def draw(axis: str, points: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Seconds with their floor on the left, memory on the right; all scales are logarithmic."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    values = [point["value"] for point in points]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for phase in PHASES:
        colour = COLOURS[phase]
        left.plot(values, [point[f"{phase}_seconds"] for point in points], "o-", color=colour, label=phase)
        left.plot(values, [floor(point, phase) for point in points], ":", color=colour, label=f"{phase}, floor")
        right.plot(values, [point[f"{phase}_mib"] for point in points], "o-", color=colour, label=phase)
    for side, title in ((left, "seconds a step"), (right, "peak MiB")):
        side.set(xscale="log", yscale="log", xlabel=AXES[axis].label, title=title)
        side.set_xticks(values, [f"{value:,}" for value in values], minor=False)
        side.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        side.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        side.yaxis.set_minor_formatter(NullFormatter())
        side.minorticks_off()
        side.grid(alpha=0.3)
        side.legend(fontsize="small")
    low, high = right.get_ylim()
    right.set_ylim(low / 2, high * 1.2)  # what hardly grows shall look so
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
