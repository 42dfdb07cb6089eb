"""Make the points that are missing, each in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from compare_trl.cpu import watch
from compare_trl.side import environment
from compare_trl.works import Order
from sample_efficiency.places import RESULTS as BESIDE
from sample_efficiency.places import ROOT, write_json

from scaling.axes import AXES, PHASES, operations

RESULTS = BESIDE.parent / "scaling"


def measure(axis: str, value: int, steps: int) -> dict[str, Any]:
    """Seconds, memory, and the share of the machine that others used meanwhile."""
    from compare_trl.material import make

    from groupwise.stages.record import machine

    work, threads = AXES[axis].work(value), len(os.sched_getaffinity(0))
    with TemporaryDirectory() as folder:
        make(work, Path(folder))
        order = Order(work, folder, "float32", "cpu", threads)
        log = Path(folder) / "log"
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "scaling.point", json.dumps(order.as_dict()), str(steps)],
                cwd=ROOT,
                env=environment(threads),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        foreign = watch(process.pid)
        assert process.stdout is not None
        with process:
            line = process.stdout.readline()
            share = foreign()
        if process.returncode:
            raise SystemExit(f"{axis} {value} failed: {log.read_text()[-3000:]}")
    settings = {"axis": axis, "value": value, "steps": steps}
    return settings | json.loads(line) | {"operations": operations(work), "foreign": share, "machine": machine()}


def path_of(axis: str, value: int) -> Path:
    return RESULTS / f"{axis}-{value}.json"


def measure_missing(axes: list[str], steps: int, points: int) -> None:
    """The first `points` of each axis, but for those that were measured with so many steps already."""
    for axis in axes:
        enough = {point["value"] for point in results(axis) if point["steps"] >= steps}
        for value in AXES[axis].values[:points]:
            if value in enough:
                continue
            found = measure(axis, value, steps)
            write_json(path_of(axis, value), found)
            phases = "; ".join(
                f"{phase} {found[f'{phase}_seconds']:.2f} s, {found[f'{phase}_mib']:,.0f} MiB" for phase in PHASES
            )
            print(f"{axis} {value}: {phases}; others used {found['foreign']:.0%}", flush=True)


def results(axis: str) -> list[dict[str, Any]]:
    """The axis's points so far, by rising value."""
    paths = [path_of(axis, value) for value in AXES[axis].values]
    return [json.loads(path.read_text()) for path in paths if path.exists()]
