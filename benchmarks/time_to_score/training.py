"""Do a job: train by either side in a process of its own, evaluate both alike, keep the points of the curve.

A point: {"rollouts", "seconds" (of training so far), "by_task" (held-out pass@1)}.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compare_trl.cpu import watch
from compare_trl.side import environment
from sample_efficiency.learning import by_task
from sample_efficiency.places import DEMO, ROOT, write_json
from sample_efficiency.places import RESULTS as BESIDE

from time_to_score.plan import Job

RESULTS = BESIDE.parent / "time_to_score"
RAW = RESULTS / "raw"
RUNS = ROOT / "runs" / "time-to-score"
EVAL_SEED = 990  # and the job's seed: other held-out prompts for each seed, the same for both sides


def do(job: Job, python: str, every: int, prompts: int) -> dict[str, Any]:
    """The job's result, which is also kept. `python`: of TRL's environment; `every`: updates between evaluations.

    Tuning is judged by the end alone, so nothing is evaluated before it.
    """
    from groupwise.stages.record import machine

    shutil.rmtree(RUNS / job.name, ignore_errors=True)
    (RUNS / job.name).mkdir(parents=True)
    every, began = job.steps if job.tunes else every, time.monotonic()
    points, foreign = of_trl(job, python, every, prompts) if job.setting else of_ours(job, every, prompts)
    result = {
        "side": "trl" if job.setting else "ours",
        **(job.setting._asdict() if job.setting else {}),
        "seed": job.seed,
        "steps": job.steps,
        "points": points,
        "foreign": foreign,  # share of the machine that others used meanwhile
        "eval_prompts": prompts,
        "eval_every": every,
        "took": time.monotonic() - began,  # seconds, start-up and evaluations included
        "machine": machine(),
    }
    write_json(RAW / f"{job.name}.json", result)
    shutil.rmtree(RUNS / job.name)
    return result


def of_trl(job: Job, python: str, every: int, prompts: int) -> tuple[list[dict[str, Any]], float]:
    assert job.setting is not None
    folder, recipe = RUNS / job.name, demo()
    order = {"folder": str(folder), "seed": job.seed, "steps": job.steps, "every": every} | job.setting._asdict()
    foreign = run([python, "-m", "time_to_score.trl_run", json.dumps(order)], folder / "log")
    seconds = {int(step): total for step, total in json.loads((folder / "seconds.json").read_text()).items()}
    models = [recipe.model, *(str(folder / f"step-{step}") for step in seconds)]
    words = ["eval", *models, f"--recipe={DEMO}", f"--seed={EVAL_SEED + job.seed}", f"--prompts={prompts}", "--json"]
    run([sys.executable, "-m", "groupwise", *words], folder / "eval.log", folder / "eval.json")
    rates = [model["by_task"] for model in json.loads((folder / "eval.json").read_text())["models"]]
    steps = {0: 0.0, **seconds}
    return [
        {"rollouts": step * recipe.rollout.batch_size, "seconds": total, "by_task": rate}
        for (step, total), rate in zip(steps.items(), rates, strict=True)
    ], foreign


def of_ours(job: Job, every: int, prompts: int) -> tuple[list[dict[str, Any]], float]:
    from groupwise.run.folder import METRICS, SUMMARY
    from groupwise.run.metrics import read_metrics

    folder = RUNS / job.name
    words = ["train", str(DEMO), f"--run.dir={folder / 'run'}", f"--seed={job.seed}", f"--steps={job.steps}"]
    words += [f"--eval.every={every}", f"--eval.prompts={prompts}", f"--eval.seed={EVAL_SEED + job.seed}"]
    foreign = run([sys.executable, "-m", "groupwise", *words], folder / "log")
    summary = json.loads((folder / "run" / SUMMARY).read_text())
    points: list[dict[str, Any]] = [{"rollouts": 0, "seconds": 0.0, "by_task": summary["before"]["by_task"]}]
    total = 0.0
    for row in read_metrics(folder / "run" / METRICS):
        total += row["time/total"]
        if "eval/pass@1" in row:
            points.append({"rollouts": row["rollouts/total"], "seconds": total, "by_task": by_task(row)})
    points.append({"rollouts": summary["rollouts"], "seconds": total, "by_task": summary["after"]["by_task"]})
    return points, foreign


def demo() -> Any:
    """The recipe that both sides train by."""
    from groupwise.config import Recipe
    from groupwise.recipes import load_recipe

    return load_recipe(Recipe, DEMO, [])


def run(command: Sequence[str], log: Path, output: Path | None = None) -> float:
    """Run it to its end; the share of the machine that others used meanwhile. What it prints goes to `output`."""
    threads = len(os.sched_getaffinity(0))
    with log.open("wb") as errors, (output or Path(os.devnull)).open("wb") as printed:
        process = subprocess.Popen(command, cwd=ROOT, env=environment(threads), stdout=printed, stderr=errors)
        foreign = watch(process.pid)
        try:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # its times can still be read
            share = foreign()
        finally:
            process.kill()
            process.wait()
    if process.returncode:
        raise SystemExit(f"{' '.join(command[:4])} failed: {log.read_text()[-3000:]}")
    return share


def results() -> dict[str, dict[str, Any]]:
    """By the names of the jobs."""
    return {path.stem: json.loads(path.read_text()) for path in RAW.glob("*.json")}
