"""The command line of the race."""

from __future__ import annotations

import os
import sys
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter

from compare_trl.venv import trl_python

from time_to_score.analysis import score
from time_to_score.plan import SEEDS, next_job
from time_to_score.report import report
from time_to_score.training import demo, do, results

SLACK = 1.2  # a run may take this many times as long a step as the slowest so far

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def main(description: str | None) -> None:
    parser = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--steps", type=int, default=None, help="batches of rollouts of a run; default: the demo's")
    parser.add_argument("--eval-every", type=int, default=3, help="batches between evaluations")
    parser.add_argument("--eval-prompts", type=int, default=100, help="held-out prompts a task")
    parser.add_argument("--budget-minutes", type=float, default=float("inf"), help="start no run that ends later")
    parser.add_argument("--report", action="store_true", help="only write what the runs so far show into docs/speed.md")
    arguments = parser.parse_args()
    recipe = demo()
    steps, rivals = arguments.steps or recipe.steps, tuple(dict.fromkeys((1, recipe.update.minibatches)))
    if arguments.report:
        report(arguments.seeds, steps, rivals)
        return
    python = trl_python()
    began, done = time.monotonic(), results()
    slowest = max((result["took"] / result["steps"] for result in done.values()), default=0.0)  # seconds a step
    scores = {name: score(result["points"][-1]) for name, result in done.items()}
    while job := next_job(scores, arguments.seeds, steps, rivals):
        if time.monotonic() - began + SLACK * slowest * job.steps > 60 * arguments.budget_minutes:
            print(f"the time is up; next would be {job.name}")
            return
        result = do(job, python, arguments.eval_every, arguments.eval_prompts)
        slowest, points = max(slowest, result["took"] / job.steps), result["points"]
        scores[job.name] = score(points[-1])
        seconds = points[-1]["seconds"]
        print(f"{job.name}: {score(points[0]):.1%} -> {scores[job.name]:.1%} in {seconds:.0f} s", file=sys.stderr)
    report(arguments.seeds, steps, rivals)
