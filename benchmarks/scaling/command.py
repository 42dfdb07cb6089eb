"""The command line of the curves."""

from __future__ import annotations

import os
from argparse import ArgumentParser, RawDescriptionHelpFormatter

from scaling.axes import AXES
from scaling.measure import measure_missing
from scaling.report import report

STEPS, POINTS = 5, 5
QUICK_STEPS, QUICK_POINTS = 1, 2

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def main(description: str | None) -> None:
    parser = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--axes", nargs="+", choices=AXES, default=list(AXES))
    parser.add_argument("--quick", action="store_true", help="the first two points of each axis, one step each")
    parser.add_argument("--report", action="store_true", help="write the points so far into docs/speed.md")
    arguments = parser.parse_args()
    if arguments.report:
        report()
    elif arguments.quick:
        measure_missing(arguments.axes, QUICK_STEPS, QUICK_POINTS)
    else:
        measure_missing(arguments.axes, STEPS, POINTS)
