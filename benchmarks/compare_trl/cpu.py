"""Who used the processors meanwhile. Linux only."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


def watch(pid: int) -> Callable[[], float]:
    """From now on: the function tells the share [0, 1] of the machine that went to others than this process's tree.

    Time that a virtual machine's host gave to others counts as theirs.
    """
    began, busy, own = time.monotonic(), busy_seconds(), tree_seconds(pid)

    def share() -> float:
        others = (busy_seconds() - busy) - (tree_seconds(pid) - own)
        return max(0.0, others) / ((time.monotonic() - began) * (os.cpu_count() or 1))

    return share


def busy_seconds() -> float:
    """CPU seconds of the whole machine since it started."""
    return busy_ticks((PROC / "stat").read_text()) / TICKS


def busy_ticks(text: str) -> int:
    """Of /proc/stat: user, nice, system, irq, softirq and steal.

    >>> busy_ticks("cpu  1 20 300 9000 9000 4000 50000 600000 0 0")
    654321
    """
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, text.split()[1:9])
    return user + nice + system + irq + softirq + steal


def tree_seconds(root: int) -> float:
    """CPU seconds of a process, its descendants, and those of them that have ended."""
    stats = {}
    for path in PROC.glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            stats[int(path.parent.name)] = parent_and_ticks(path.read_text())
    return tree_ticks(root, stats) / TICKS


def parent_and_ticks(text: str) -> tuple[int, int]:
    """Of /proc/PID/stat: the parent, and the ticks used, those of children waited for included."""
    fields = text.rpartition(")")[2].split()  # a program's name may hold spaces and brackets
    return int(fields[1]), sum(map(int, fields[11:15]))


def tree_ticks(root: int, stats: Mapping[int, tuple[int, int]]) -> int:
    children = defaultdict(list)
    for pid, (parent, _) in stats.items():
        children[parent].append(pid)
    total, waiting = 0, [root] if root in stats else []
    while waiting:
        pid = waiting.pop()
        total += stats[pid][1]
        waiting += children[pid]
    return total
