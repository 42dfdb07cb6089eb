"""Where the study keeps things, and how it calls groupwise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "sample_efficiency"
RUNS = ROOT / "runs" / "sample-efficiency"  # what need not be kept
DEMO = ROOT / "recipes" / "demo.yaml"
ONE_CORE = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def start(words: Sequence[str], log: Path, program: Sequence[str] = ("-m", "groupwise")) -> subprocess.Popen[bytes]:
    """A groupwise command on one core, in a process of its own; what it prints goes to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, *program, *words], cwd=ROOT, env=os.environ | ONE_CORE, stdout=output, stderr=output
        )


def write_json(path: Path, content: Any) -> None:
    """Whole or not at all: a result that is there was finished."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(content, indent=1) + "\n")
    beside.replace(path)
