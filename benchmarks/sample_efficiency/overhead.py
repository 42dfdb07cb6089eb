"""`overhead`: what grouping and advantages cost an update, at the demo's size and with 100,000 known prompts."""

from __future__ import annotations

import shutil
import time
from argparse import ArgumentParser, Namespace
from typing import Any

import numpy as np

from sample_efficiency.places import DEMO, RESULTS, RUNS, start, write_json

KINDS: dict[str, tuple[str, ...]] = {
    "rloo@8": ("--advantage.kind=rloo", "--rollout.group_size=8"),
    "hierarchical@2": ("--advantage.kind=hierarchical", "--rollout.group_size=2"),
    "clusters@2": ("--advantage.kind=hierarchical", "--rollout.group_size=2", "--grouping.kind=clusters"),
    "kernel@2": ("--advantage.kind=hierarchical", "--rollout.group_size=2", "--advantage.transfer=kernel"),
}
KNOWN_KINDS = ("hierarchical@2", "clusters@2")  # the kernel looks at the batch's own prompts only
STEPS = ("embed", "group", "estimate")
SKIPPED = 3  # first updates, in which caches fill
FEATURES, FAMILIES, DOMAINS, FILL = 64, 300, 6, 4000  # of made-up prompts; FILL: prompts of an update that fills
MEMORY = 2**33  # bytes that clusters may take, so that nothing is forgotten


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=15, help="updates of each short training")
    parser.add_argument("--known", type=int, default=100_000, help="prompts in the history of the made-up updates")
    parser.add_argument("--updates", type=int, default=30, help="made-up updates that are timed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)


def run(arguments: Namespace) -> None:
    from groupwise.stages.record import machine

    settings = {key: getattr(arguments, key) for key in ("steps", "known", "updates", "threads", "seed")}
    result: dict[str, Any] = {"machine": machine(), "settings": settings, "demo": {}}
    for name, words in KINDS.items():
        result["demo"][name] = row = of_training(name, words, arguments)
        parts = ", ".join(f"{step} {row[step]['median']:,.0f}" for step in STEPS)
        print(
            f"demo      {name:15} {parts} us; {row['share']:.2%} of an update of {row['total_seconds']:.2f} s",
            flush=True,
        )
    result["known"] = {}
    for name in KNOWN_KINDS:
        result["known"][name] = row = of_known(KINDS[name], arguments)
        row["share"] = (
            (row["group"]["median"] + row["estimate"]["median"]) / 1e6 / result["demo"][name]["total_seconds"]
        )
        parts = ", ".join(f"{step} {row[step]['median']:,.0f}" for step in STEPS[1:])
        print(f"{row['prompts']:9,} {name:15} {parts} us; {row['share']:.2%} of an update of the demo", flush=True)
    write_json(RESULTS / "overhead.json", result)


def of_training(name: str, words: tuple[str, ...], arguments: Namespace) -> dict[str, Any]:
    """Microseconds an update by the metrics `time/*` of a short training by the demo's recipe."""
    from groupwise.run.folder import METRICS
    from groupwise.run.metrics import read_metrics

    folder, log = RUNS / "overhead" / name, RUNS / "overhead" / f"{name}.log"
    shutil.rmtree(folder, ignore_errors=True)
    settings = [f"--steps={arguments.steps}", f"--threads={arguments.threads}", f"--seed={arguments.seed}"]
    settings += [f"--run.dir={folder}", "--eval.prompts=0", "--run.report=false", "--checkpoint.every=0"]
    if start(["train", str(DEMO), *words, *settings], log).wait():
        raise SystemExit(f"{name} failed: {log.read_text()[-1000:]}")
    rows = read_metrics(folder / METRICS)[SKIPPED:]
    found: dict[str, Any] = {step: microseconds([row[f"time/{step}"] for row in rows]) for step in STEPS}
    total = float(np.median([row["time/total"] for row in rows]))
    share = sum(found[step]["median"] for step in STEPS) / 1e6 / total
    return found | {"total_seconds": total, "share": share}


def of_known(words: tuple[str, ...], arguments: Namespace) -> dict[str, Any]:
    """Microseconds an update of the demo's size with `known` made-up prompts in the history and in the clusters."""
    from groupwise.config import Recipe
    from groupwise.recipes import load_recipe
    from groupwise.stages.comparison import Comparison

    recipe = load_recipe(Recipe, DEMO, [*words, f"--advantage.history={arguments.known}"])
    comparison = Comparison(recipe, None, MEMORY)
    rng = np.random.default_rng(arguments.seed)
    centres = rng.normal(size=(FAMILIES, FEATURES)).astype(np.float32)
    for first in range(0, arguments.known, FILL):
        numbers = np.arange(first, min(first + FILL, arguments.known))
        update(comparison, centres, numbers.repeat(2), rng)
    size = recipe.rollout.batch_size // recipe.rollout.group_size
    times = []
    for number in range(arguments.updates + SKIPPED):
        new = arguments.known + np.arange(number * size, (number + 1) * size)
        old = rng.integers(arguments.known, size=size)
        times.append(update(comparison, centres, np.where(rng.random(size) < 0.5, new, old).repeat(2), rng))
    group, estimate = zip(*times[SKIPPED:], strict=True)
    report = comparison.report()
    found = {
        "prompts": int(report["history/prompts"]),
        "group": microseconds(group),
        "estimate": microseconds(estimate),
    }
    return found | {key: value for key, value in report.items() if key.startswith("groups/cluster")}


def update(comparison: Any, centres: np.ndarray, numbers: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """Seconds that `group` and `estimate` take with rollouts of the prompts `numbers` [N]."""
    from groupwise.types import Completion, Prompt, Rollout

    said = Completion(token_ids=(1,), logprobs=(0.0,), text="", finish_reason="stop", policy_version=0)
    prompts: dict[int, Prompt] = {}
    for number in np.unique(numbers).tolist():
        noise = np.random.default_rng(number).normal(size=FEATURES).astype(np.float32)  # the same when it comes back
        family = number % FAMILIES
        prompts[number] = Prompt(
            id=f"{number:08x}",
            task="made up",
            domain=f"domain {family % DOMAINS}",
            text="",
            token_ids=(1,) * (20 + family % 30),
            embedding=centres[family] + 0.4 * noise,
        )
    rollouts = [
        Rollout(prompt=prompts[n], completion=said, reward=float(rng.random() < (n % FAMILIES + 1) / (FAMILIES + 1)))
        for n in numbers.tolist()
    ]
    began = time.perf_counter()
    groups = comparison.group(rollouts)
    grouped = time.perf_counter()
    comparison.estimate(rollouts, groups)
    return grouped - began, time.perf_counter() - grouped


def microseconds(seconds: Any) -> dict[str, Any]:
    low, median, high = np.quantile(np.asarray(seconds) * 1e6, [0.25, 0.5, 0.75])
    return {"median": float(median), "quartiles": [float(low), float(high)]}
