"""The end of a run: summary, report, and the table before and after."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from groupwise.config import Recipe
from groupwise.report import before_after_table, profile_table, write_report
from groupwise.run.disk import writing
from groupwise.run.folder import MODEL, PROFILE, REPORT, SUMMARY
from groupwise.stages.record import Totals, machine, peak_memory_mib
from groupwise.stages.screen import Screen
from groupwise.stages.summarise import is_graded


def finish(
    recipe: Recipe,
    run_dir: Path,
    steps: int,
    totals: Totals,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    gain: Mapping[str, Any] | None,
) -> None:
    """Write `summary.json` and `report.html` of so many updates, then show what changed and where everything lies."""
    values = totals.values
    summary = {
        "model": recipe.model,
        "steps": steps,
        "before": _without_prompts(before),
        "after": _without_prompts(after),
        "gain": gain,
        "rollouts": int(values["rollouts"]),
        "tokens": int(values["tokens"]),
        "train_seconds": values["train_seconds"],
        "generate_seconds": values["generate_seconds"],
        "update_seconds": values["update_seconds"],
        "dropped_rollouts": int(values["dropped"]),
        "discarded_rollouts": int(values["discarded"]),
        "peak_memory_mib": peak_memory_mib(),
        "machine": machine(),
    }
    beside = run_dir / f".{SUMMARY}.tmp"
    with writing(run_dir / SUMMARY):
        beside.write_text(json.dumps(summary, indent=2) + "\n")
        beside.replace(run_dir / SUMMARY)
    console = Screen()
    if after and after["by_task"]:
        console.print(before_after_table(summary))
        if before and (is_graded(before) or is_graded(after)):
            console.print(f"mean reward {before['reward']:.3g} before, {after['reward']:.3g} after", highlight=False)
    console.print(
        f"{summary['rollouts']:,} rollouts, {summary['tokens']:,} tokens in {summary['train_seconds']:.0f} s of "
        f"training; {summary['dropped_rollouts']} rollouts dropped.",
        highlight=False,
    )
    console.print(f"model   {run_dir / MODEL}", highlight=False)
    if recipe.run.report:
        write_report(run_dir)
        console.print(f"report  {run_dir / REPORT}", highlight=False)


def show_profile(run_dir: Path) -> None:
    """Where the time and the memory of the updates went, if any was measured."""
    if (path := run_dir / PROFILE).exists():
        console = Screen()
        console.print(profile_table(json.loads(path.read_text())))
        console.print(f"profile {path}", highlight=False)


def _without_prompts(result: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The result less its outcomes by prompt, which only the paired comparison needs."""
    return None if result is None else {key: value for key, value in result.items() if key != "per_prompt"}
