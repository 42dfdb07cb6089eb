"""Repeat the demo with several seeds and keep what it reached: benchmarks/results/demo.json.

    python benchmarks/demo.py [--seeds 0 1 2]

Seed 0 is what `make demo` runs. A seed whose result is there is not run again, so it can be stopped and
resumed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from sample_efficiency.places import write_json

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "demo.json"
KEPT = (
    "before",
    "after",
    "gain",
    "rollouts",
    "tokens",
    "train_seconds",
    "dropped_rollouts",
    "peak_memory_mib",
    "machine",
)


def run(seed: int) -> dict[str, Any]:
    folder = ROOT / "runs" / f"benchmark-demo-{seed}"
    began = time.monotonic()
    command = ["train", "recipes/demo.yaml", f"--seed={seed}", f"--run.dir={folder}"]
    subprocess.run([sys.executable, "-m", "groupwise", *command], cwd=ROOT, check=True)
    summary = json.loads((folder / "summary.json").read_text())
    return {"seed": seed, "seconds": time.monotonic() - began} | {key: summary[key] for key in KEPT}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    done = json.loads(RESULTS.read_text())["runs"] if RESULTS.exists() else []
    for seed in parser.parse_args().seeds:
        if seed not in [result["seed"] for result in done]:
            done.append(run(seed))
            write_json(RESULTS, {"runs": done})
    for result in done:
        before, after, gain = (result[key]["pass@1"] for key in ("before", "after", "gain"))
        low, high = result["gain"]["interval"]
        worst = min(result["gain"]["by_task"].items(), key=lambda item: item[1])
        print(
            f"seed {result['seed']}: {before:.1%} -> {after:.1%}, {100 * gain:+.1f} points ({100 * low:.1f} to "
            f"{100 * high:.1f}), least {worst[0]} {100 * worst[1]:+.1f}; {result['train_seconds']:.0f} s of training, "
            f"{result['seconds']:.0f} s in all"
        )
    print(f"median gain {100 * statistics.median(r['gain']['pass@1'] for r in done):+.1f} points")


if __name__ == "__main__":
    main()
