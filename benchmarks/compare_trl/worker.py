"""What the processes of both sides share: lines to and from the driver, and how much memory they hold."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

MIB = 2**20


def channel() -> Callable[[dict[str, Any]], None]:
    """A function that sends the driver a line. Whatever else is printed from now on goes to the log."""
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return lambda content: print(json.dumps(content), file=lines, flush=True)


def told() -> bool:
    """Wait until the driver asks for a step; false when it wants no more."""
    return bool(sys.stdin.readline())


def resident_mib(key: str = "VmRSS") -> float:
    """Resident memory of this process, now or (VmHWM) at its peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"/proc/self/status has no {key}")


def forget_peak() -> None:
    """Let VmHWM begin anew; where the system forbids it, it goes on."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mib(device: str) -> float:
    """Of the GPU's memory, what torch has allocated at most; else the peak of the process."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / MIB
    return resident_mib("VmHWM")


def synchronise(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
