"""The memory of a long run stays flat, though no two of its micro-batches have the same shape."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SHAPES = """
import ctypes, sys, torch
from pathlib import Path
from groupwise.learner.policy import load_policy

load_policy(sys.argv[1], torch.device("cpu"))
weight = torch.randn(1024, 256, dtype=torch.bfloat16)

def mebibytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4 / 1024

for size in range(450):
    if size == 150:
        before = mebibytes()
    torch.nn.functional.linear(torch.zeros(64 + size, 256, dtype=torch.bfloat16), weight)
print(mebibytes() - before)
"""


def grown(folder: Path, **variables: str) -> float:
    """MiB that 300 products of different shapes leave behind, after 150 others."""
    command = [sys.executable, "-c", SHAPES, str(folder)]
    answer = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=True)
    return float(answer.stdout)


def test_new_shapes_do_not_use_up_the_memory(folder: Path) -> None:
    """Where products go through oneDNN: 60 MiB, and without a bound 240."""
    assert grown(folder) < 120
