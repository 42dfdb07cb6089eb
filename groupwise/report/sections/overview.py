"""The head of the page: what was trained, how far it came, what it cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from groupwise.report import words
from groupwise.report.gains import overall
from groupwise.report.reading import Run
from groupwise.report.sections.base import Section

Fact = tuple[str, str, str]  # label, value, a smaller remark


def build(run: Run) -> Section:
    return Section(
        id="overview",
        title="Overview",
        context={
            "story": story(run),
            "status": status(run),
            "all": overall(run.summary),
            "terms": terms(run),
            "facts": list(facts(run)),
            "setup": list(setup(run)),
            "problems": run.problems,
        },
    )


def status(run: Run) -> tuple[str, str]:
    """A kind for the style sheet, and the words."""
    if run.finished:
        return "finished", "finished"
    if not run.steps_done:
        return "empty", "no update yet"
    if run.steps_done >= run.steps_asked > 0:
        return "unfinished", f"{words.plural(run.steps_done, 'update')}, no summary"
    asked = f" of {words.count(run.steps_asked)}" if run.steps_asked else ""
    return "unfinished", f"unfinished: {words.count(run.steps_done)}{asked} updates"


def story(run: Run) -> str:
    """The run in a sentence or two."""
    tasks = run.setting("tasks")
    families = f" on {words.plural(len(tasks), 'task')}" if isinstance(tasks, list) and tasks else ""
    model = run.setting("model") or run.summary.get("model") or "a model"
    group, batch = run.setting("rollout.group_size"), run.setting("rollout.batch_size")
    if not (isinstance(group, int) and isinstance(batch, int) and group > 0):
        return f"{model}{families}."
    again = _repeats(run, batch) if group == 1 else 0
    prompts = words.plural(batch // group - again, "prompt")
    twice = f" ({words.count(again)} of them twice)" if again else ""
    per_update = f"{prompts} \u00d7 {words.plural(group, 'completion')}{twice} an update"
    done = run.steps_done or int(run.summary.get("steps", 0))
    open_end = not run.finished and run.steps_asked > done
    updates = f"{words.count(done)} of {run.steps_asked:,} updates" if open_end else words.plural(done, "update")
    return f"{model}, trained by reinforcement{families}: {updates}, {per_update}."


def _repeats(run: Run, batch: int) -> int:
    """Prompts that are drawn twice where each has one completion; as stages/collect.py has it."""
    share = run.setting("rollout.repeat")
    hierarchical = run.setting("advantage.kind") == "hierarchical"
    return round(batch * share / (1 + share)) if hierarchical and isinstance(share, int | float) else 0


def terms(run: Run) -> str:
    """What the headline rates were measured on."""
    result: Mapping[str, Any] = run.summary.get("after") or run.summary.get("before") or {}
    parts = []
    if tasks := len(result.get("by_task") or {}):
        parts.append(f"mean of {words.plural(tasks, 'task')}")
    if "prompts" in result:
        parts.append(f"{words.count(result['prompts'])} held-out prompts")
    if result.get("samples", 1) != 1:
        parts.append(f"{result['samples']} samples each")
    if "temperature" in result:
        parts.append(f"temperature {words.number(result['temperature'])}")
    return ", ".join(parts)


def facts(run: Run) -> Iterator[Fact]:
    """What it cost."""
    totals = _totals(run)
    if totals["rollouts"]:
        lost = {key: totals[key] for key in ("dropped", "discarded")}
        remarks = [f"{words.count(number)} {key}" for key, number in lost.items() if number is not None]
        yield "Rollouts", words.count(totals["rollouts"]), ", ".join(remarks)
    seconds = totals["seconds"]
    if totals["tokens"]:
        rate = f"{words.count(totals['tokens'] / seconds)} a second" if seconds else ""
        yield "Tokens", words.amount(totals["tokens"]), rate
    if seconds:
        parts = {"generating": totals["generate"], "updating": totals["update"]}
        shares = [f"{words.percent(part / seconds, 0)} {verb}" for verb, part in parts.items() if part]
        yield "Training time", words.duration(seconds), ", ".join(shares)
    if totals["memory"]:
        yield "Peak memory", words.memory(totals["memory"]), "of the process"
    machine: Mapping[str, Any] = run.summary.get("machine") or {}
    if machine:
        gpu = str(machine.get("gpu", "none"))
        cores = f"{machine['cores']} cores" if "cores" in machine else ""
        versions = [f"{name} {machine[name]}" for name in ("torch", "python") if name in machine]
        chip = gpu if gpu != "none" else str(machine.get("cpu", "CPU"))
        yield "Machine", chip, ", ".join(part for part in (cores, *versions) if part)


def setup(run: Run) -> Iterator[Fact]:
    """The recipe's essentials."""
    for label, key, remarks in (
        ("Advantage", "advantage.kind", {"advantage.scale": "scaled by {}"}),
        ("Loss", "loss.kind", {"loss.beta": "KL weight {}"}),
        ("Learning rate", "update.learning_rate", {"update.schedule": "{}", "update.warmup": "warm-up {}"}),
        ("Sampling", "rollout.temperature", {"rollout.max_tokens": "at most {} tokens", "seed": "seed {}"}),
    ):
        value = run.setting(key)
        if value is not None:
            said = [text.format(run.setting(k)) for k, text in remarks.items() if run.setting(k) or k == "seed"]
            shown = f"temperature {value:g}" if key.endswith("temperature") else _plain(value)
            yield label, shown, ", ".join(said)
    rewards = run.setting("rewards")
    if isinstance(rewards, list) and rewards:
        named = [r for r in rewards if isinstance(r, Mapping) and "name" in r]
        weights = [f"{r['name']} \u00d7{_plain(r['weight'])}" for r in named if r.get("weight", 1) != 1]
        yield "Rewards", ", ".join(str(r["name"]) for r in named), ", ".join(weights)


def _totals(run: Run) -> dict[str, float | None]:
    """From the summary, or from the rows so far."""
    names = {
        "rollouts": "rollouts",
        "tokens": "tokens",
        "dropped": "dropped_rollouts",
        "discarded": "discarded_rollouts",
        "seconds": "train_seconds",
        "generate": "generate_seconds",
        "update": "update_seconds",
        "memory": "peak_memory_mib",
    }
    if run.finished:
        return {key: run.summary.get(name) for key, name in names.items()}
    return {
        "rollouts": _last(run, "rollouts/total"),
        "tokens": _last(run, "tokens/total"),
        "dropped": _sum(run, "rollouts/dropped"),
        "discarded": _sum(run, "rollouts/discarded"),
        "seconds": _sum(run, "time/total"),
        "generate": _sum(run, "time/generate"),
        "update": _sum(run, "time/update"),
        "memory": _last(run, "memory/peak_mib"),
    }


def _last(run: Run, key: str) -> float | None:
    values = run.column(key)
    values = values[np.isfinite(values)]
    return float(values[-1]) if len(values) else None


def _sum(run: Run, key: str) -> float | None:
    return float(np.nansum(run.column(key))) if key in run.metrics else None


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return words.number(value)
    return str(value)
