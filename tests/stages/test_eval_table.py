"""The tables of `groupwise eval` fit a terminal and say what the result says."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from groupwise.stages.eval_table import tables
from groupwise.stages.summarise import compare

from .test_summarise import measured, rights, rollout

TASKS = ("chain_sum", "complex_arithmetic", "number_sequence")


def one(right: int, model: str = "seedling", samples: int = 1) -> dict[str, Any]:
    """A model that is right on the first `right` of 30 prompts of every task."""
    made = [
        rollout(task, number, float(number < right), "4" if number < right else "5")
        for task in TASKS
        for number in range(30)
        for _ in range(samples)
    ]
    return {"model": model, **measured(made, samples)}


def several(*results: dict[str, Any]) -> dict[str, Any]:
    first, *others = results
    differences = [{"model": o["model"], "against": first["model"], **(compare(first, o) or {})} for o in others]
    return {"models": list(results), "differences": differences}


def shown(result: dict[str, Any], width: int = 80) -> list[str]:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        for part in tables(result, width):
            console.print(part)
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= width
    assert not any("\u2026" in line for line in lines)  # nothing was cut
    return lines


def row(lines: list[str], name: str) -> list[str]:
    [found] = [line for line in lines if line.strip().startswith(name)]
    return found.replace(name, "", 1).split()


def test_one_model() -> None:
    lines = shown(one(15))
    assert lines[0] == "seedling: 90 held-out prompts, seed 990"
    assert row(lines, "chain_sum") == ["50.0%", "(33\u201367)"]
    assert row(lines, "all tasks") == ["50.0%", "(40\u201360)"]
    assert lines[-1].strip() == "95 % intervals; 2 tokens a completion, 0.0% cut at max_tokens"


def test_several_samples_give_more_columns_and_a_table_by_k() -> None:
    lines = shown(one(15, samples=4))
    assert row(lines, "task") == ["pass@1", "pass@4", "maj@4"]
    assert [row(lines, k)[0] for k in ("1 ", "2 ", "4 ")] == ["50.0%"] * 3


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("models", [2, 3, 6])
def test_several_models_fit(width: int, models: int) -> None:
    lines = shown(several(*(one(5 * i, f"runs/{i}", samples=2) for i in range(models))), width)
    marks = sum(line.count("\u2713") for line in lines) - 1  # the last line explains it
    assert marks == (models - 1) * (len(TASKS) + 3)
    assert next(line for line in lines if line[1:3] == "  ").startswith("A  runs/0")


def test_the_widest_numbers_fit() -> None:
    for width in range(80, 160, 4):
        shown(several(one(30), *(one(0, samples=1) for _ in range(5))), width)


def test_a_gain_and_a_loss_are_marked_and_noise_is_not() -> None:
    for before, after, mark in ((15, 25, "\u2713"), (25, 15, "\u25bc"), (15, 16, "")):
        lines = shown(several(one(before), one(after)))
        cells = row(lines, "chain_sum")
        assert cells[:2] == [f"{before / 30:.1%}", f"{after / 30:.1%}"]
        assert cells[2].lstrip("+\u2212") == f"{abs(after - before) / 0.3:.1f}"
        assert cells[-1] == (mark or cells[-1].strip("\u2713\u25bc"))


def test_what_was_not_measured_is_a_dash() -> None:
    nothing = {"model": "m", **measured([])}
    assert row(shown(nothing), "all tasks") == ["-"]
    assert row(shown(several(nothing, nothing)), "all tasks") == ["-", "-", "-"]
    lines = shown(several({"model": "m", **measured([*rights("a", 1), *rights("b", 1)])}, {**nothing}))
    assert row(lines, "a ") == ["100.0%", "-", "-"]


def test_dropped_rollouts_are_told() -> None:
    made = {"model": "m", **measured([*rights("a", 1), rollout("a", 1, None)])}
    assert "1 dropped" in " ".join(shown(made))


def test_the_mean_reward_is_told_where_it_has_grades() -> None:
    graded, plain = {"model": "m", **measured(rights("a", 0.5, 1))}, {"model": "n", **measured(rights("a", 0, 1))}
    assert "mean reward 0.75;" in " ".join(shown(graded))
    assert "mean reward" not in " ".join(shown(plain) + shown(several(plain, plain)))
    assert "mean reward: A 0.5, B 0.75" in " ".join(shown(several(plain, graded)))
