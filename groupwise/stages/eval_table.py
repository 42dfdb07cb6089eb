"""Results of `groupwise eval` for a terminal: one model by task and by k, or several side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from groupwise.report.gains import Gain, Rate
from groupwise.report.table import EN_DASH, MARKS
from groupwise.report.words import MINUS, count, points
from groupwise.stages.summarise import is_graded, sizes

NOTHING = "-"
ALL = "all tasks"


def tables(result: Mapping[str, Any], width: int) -> Iterator[Table | Text]:
    """What `evaluate_command` returned, as tables and lines for a terminal of `width` columns."""
    if "models" in result:
        yield from _side_by_side(result["models"], result["differences"], width)
        return
    yield Text(f"{result['model']}: {_terms(result)}")
    yield _by_task(result)
    yield Text(_remarks(result), style="dim")
    if len(sizes(result["samples"])) > 2:
        yield Text(f"\n{ALL}, by completions a prompt")
        yield _by_k(result)


def _by_task(result: Mapping[str, Any]) -> Table:
    names = _measures(result["samples"])
    table = _table("task", *names)
    for task in result["domains"]:
        table.add_row(Text(task), *(_cell(result, name, task) for name in names))
    table.add_section()
    table.add_row(ALL, *(_cell(result, name) for name in names), style="bold")
    return table


def _by_k(result: Mapping[str, Any]) -> Table:
    table = _table("k", "pass@k", "maj@k")
    for k in sizes(result["samples"]):
        table.add_row(str(k), _cell(result, f"pass@{k}"), _cell(result, f"maj@{k}" if k > 1 else "pass@1"))
    return table


def _side_by_side(
    results: Sequence[Mapping[str, Any]], differences: Sequence[Mapping[str, Any]], width: int
) -> Iterator[Table | Text]:
    """The first model beside the others, as many in a table as fit."""
    labels = [ascii_uppercase[i] if i < len(ascii_uppercase) else str(i + 1) for i in range(len(results))]
    tasks = list(dict.fromkeys(task for result in results for task in result["domains"]))
    yield Text(_terms(results[0]))
    yield Text("\n".join(f"{label}  {result['model']}" for label, result in zip(labels, results, strict=True)))
    first, another = max(map(len, [*tasks, ALL])) + 13, 36  # columns that a model takes
    room = max(1, (width - first) // another)
    for start in range(1, len(results), room):
        yield _beside_first(results, differences, tasks, labels, range(start, min(start + room, len(results))))
    if any(map(is_graded, results)):
        rewards = [NOTHING if (mean := result["reward"]) is None else f"{mean:.3g}" for result in results]
        pairs = (f"{label} {reward}" for label, reward in zip(labels, rewards, strict=True))
        yield Text(f"mean reward: {', '.join(pairs)}", style="dim")
    yield Text("differences with 95 % intervals, paired by prompt; \u2713 gain, \u25bc loss beyond it", style="dim")


def _beside_first(
    results: Sequence[Mapping[str, Any]],
    differences: Sequence[Mapping[str, Any]],
    tasks: Sequence[str],
    labels: Sequence[str],
    shown: range,
) -> Table:
    names = _measures(results[0]["samples"])
    table = _table(names[0], labels[0])
    for i in shown:
        table.add_column(labels[i], justify="right", no_wrap=True)
        table.add_column(f"{labels[i]} {MINUS} {labels[0]}, points", justify="right", no_wrap=True)
        table.add_column("", min_width=1)

    def add(label: str, name: str, task: str | None = None, style: str = "") -> None:
        others = [c for i in shown for c in (_rate(results[i], name, task), *_gain(differences[i - 1], name, task))]
        table.add_row(Text(label), _rate(results[0], name, task), *others, style=style)

    for task in tasks:
        add(task, names[0], task)
    table.add_section()
    for name in names:
        add(ALL if len(names) == 1 else f"{ALL}, {name}", name, style="bold")
    return table


def _measures(samples: int) -> list[str]:
    return ["pass@1"] if samples == 1 else ["pass@1", f"pass@{samples}", f"maj@{samples}"]


def _table(*headings: str) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left", no_wrap=True)
    return table


def _terms(result: Mapping[str, Any]) -> str:
    samples = "" if result["samples"] == 1 else f", {result['samples']} completions each"
    return f"{count(result['prompts'])} held-out prompts{samples}, seed {result['seed']}"


def _remarks(result: Mapping[str, Any]) -> str:
    if result["length_mean"] is None:
        return "no task has held-out prompts"
    dropped = f"; {count(result['dropped_rollouts'])} dropped" if result["dropped_rollouts"] else ""
    graded = f"; mean reward {result['reward']:.3g}" if is_graded(result) else ""
    return (
        f"95 % intervals{graded}; {result['length_mean']:.0f} tokens a completion, "
        f"{result['truncated']:.1%} cut at max_tokens{dropped}"
    )


def _values(result: Mapping[str, Any], name: str, task: str | None) -> tuple[Any, Any]:
    """A rate, or a difference of rates, and its interval; of all tasks where `task` is None."""
    if task is None:
        return result.get(name), result.get(f"{name}_interval")
    return result.get(f"by_task_{name}", {}).get(task), result.get(f"by_task_{name}_interval", {}).get(task)


def _cell(result: Mapping[str, Any], name: str, task: str | None = None) -> Text:
    value, interval = _values(result, name, task)
    if value is None:
        return Text(NOTHING)
    low, high = (f"{end * 100:.0f}" for end in interval)
    return Text(f"{value:.1%}").append(f" ({low}{EN_DASH}{high})", style="dim")


def _rate(result: Mapping[str, Any], name: str, task: str | None) -> Text:
    value, _ = _values(result, name, task)
    return Text(NOTHING if value is None else f"{value:.1%}")


def _gain(difference: Mapping[str, Any], name: str, task: str | None) -> tuple[Text, Text]:
    value, interval = _values(difference, name, task)
    if value is None:
        return Text(NOTHING), Text("")
    mark, colour = MARKS[Gain(name=name, change=Rate(value=value, interval=interval)).verdict]
    low, high = (f"{end * 100:.0f}".replace("-", MINUS) for end in interval)
    return Text(points(value), style=colour).append(f" ({low} to {high})", style="dim"), Text(mark, style=colour)
