"""`learning`: train every arm with equal rollouts, one core a run, one result file a run; done runs are skipped."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from sample_efficiency.curves import area
from sample_efficiency.places import DEMO, RESULTS, RUNS, start, write_json
from sample_efficiency.plan import ARMS, MIXES, RATES, Job, Plan, next_jobs
from sample_efficiency.scarce import find_scarce

RAW = RESULTS / "raw"
RELABEL = str(Path(__file__).with_name("relabel.py"))
KEPT = ("rollouts", "tokens", "train_seconds", "update_seconds", "dropped_rollouts", "machine")
SLACK = 1.2  # a run may take this many times as long a step as the slowest so far


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--mixes", nargs="+", choices=MIXES, default=list(MIXES))
    parser.add_argument("--arms", nargs="+", choices=ARMS, metavar="ARM", help=", ".join(ARMS))
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES), help="one: nothing is tuned")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--workers", type=int, default=2, help="runs at once, one core each")
    parser.add_argument("--budget-minutes", type=float, default=float("inf"), help="start no run that ends later")
    parser.add_argument(
        "--find-scarce", action="store_true", help="only measure candidates for the mix of rare rewards"
    )


def run(arguments: Namespace) -> None:
    if arguments.find_scarce:
        find_scarce(prompts=300)
        return
    plan = Plan(
        mixes=tuple(arguments.mixes),
        arms=tuple(arguments.arms) if arguments.arms else None,
        rates=tuple(arguments.rates),
        seeds=tuple(arguments.seeds) if arguments.seeds else None,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the runs end too
    began, done = time.monotonic(), scores()
    slowest = max((result["seconds"] / result["steps"] for result in results()), default=0.0)  # a step, all included
    running: dict[Job, tuple[subprocess.Popen[bytes], float]] = {}
    failed: set[Job] = set()
    try:
        while True:
            waiting = [job for job in next_jobs(plan, done) if job not in running and job not in failed]
            left = 60 * arguments.budget_minutes - (time.monotonic() - began)
            for job in waiting[: arguments.workers - len(running)]:
                if SLACK * slowest * job.steps < left:
                    running[job] = begin(job), time.monotonic()
            if not running:
                break
            time.sleep(1)
            for job, (process, since) in list(running.items()):
                if process.poll() is None:
                    continue
                del running[job]
                took = time.monotonic() - since
                slowest = max(slowest, took / job.steps)
                if process.returncode:
                    failed.add(job)
                    print(f"{job.name} failed: {log_of(job).read_text()[-1000:]}", flush=True)
                else:
                    done[job.name] = keep(job, took, arguments.workers)
    finally:
        for process, _ in running.values():
            process.terminate()
    print(f"{len(done)} runs are done, {len(next_jobs(plan, done))} more could start; {len(failed)} failed")


def begin(job: Job) -> subprocess.Popen[bytes]:
    arm, mix = ARMS[job.arm], MIXES[job.mix]
    shutil.rmtree(folder_of(job), ignore_errors=True)
    words = [
        "train",
        str(DEMO),
        *mix.words,
        *arm.words,
        f"--seed={job.seed}",
        f"--steps={job.steps}",
        f"--update.learning_rate={job.rate}",
        f"--run.dir={folder_of(job)}",
        "--run.rollouts=false",
        "--run.report=false",
        "--checkpoint.every=0",
        "--threads=1",
        f"--eval.every={mix.eval_every}",
        f"--eval.prompts={mix.eval_prompts}",
        f"--eval.seed={990 + job.seed}",  # paired between arms; the seeds' spread then holds that of the prompts
    ]
    return start(words, log_of(job), (RELABEL, arm.relabel) if arm.relabel else ("-m", "groupwise"))


def keep(job: Job, seconds: float, workers: int) -> float:
    """Write what the report needs of a finished run, and remove its folder; returns its score."""
    from groupwise.run.folder import METRICS, SUMMARY
    from groupwise.run.metrics import read_metrics

    folder = folder_of(job)
    summary = json.loads((folder / SUMMARY).read_text())
    rows = read_metrics(folder / METRICS)
    curve = [(0, summary["before"]["by_task"])]
    curve += [(row["rollouts/total"], by_task(row)) for row in rows if "eval/pass@1" in row]
    if curve[-1][0] < summary["rollouts"]:
        curve.append((summary["rollouts"], summary["after"]["by_task"]))
    result = {
        **{key: getattr(job, key) for key in ("mix", "arm", "rate", "seed", "steps")},
        "seconds": seconds,
        "workers": workers,
        "eval_prompts": MIXES[job.mix].eval_prompts,
        **{key: summary[key] for key in KEPT},
        "curve": [{"rollouts": rollouts, "by_task": rates} for rollouts, rates in curve],
        "time": {
            name: sum(row[f"time/{name}"] for row in rows) / len(rows)
            for name in ("embed", "group", "estimate", "total")
        },
    }
    write_json(RAW / f"{job.name}.json", result)
    shutil.rmtree(folder)
    score = area(result["curve"])
    print(f"{job.name}: area {score:.3f}, {seconds:.0f} s", flush=True)
    return score


def by_task(row: dict[str, Any]) -> dict[str, float]:
    """Held-out pass@1 by task of a row of metrics."""
    names = [key.split("/")[1] for key in row if key.startswith("eval/") and key.count("/") == 2]
    return {name: row[f"eval/{name}/pass@1"] for name in names}


def results() -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(RAW.glob("*.json"))]


def scores() -> dict[str, float]:
    """The area under the curve of each run that is done, by the name of its job."""
    return {path.stem: area(json.loads(path.read_text())["curve"]) for path in RAW.glob("*.json")}


def folder_of(job: Job) -> Path:
    return RUNS / "learning" / job.name


def log_of(job: Job) -> Path:
    return RUNS / "learning" / f"{job.name}.log"
