from __future__ import annotations

from typing import Any

from rich.console import Console

from groupwise.report import before_after_table
from groupwise.report.gains import by_task, overall

from .families import FORGOTTEN, NEVER_LEARNED


def summary(**changes: tuple[float, float]) -> dict[str, Any]:
    """One task a change: its value and half the width of its interval."""
    gains = {name: value for name, (value, _) in changes.items()}
    return {
        "before": {"pass@1": 0.4, "pass@1_interval": [0.38, 0.42], "by_task": dict.fromkeys(changes, 0.4)},
        "after": {"pass@1": 0.5, "by_task": {name: 0.4 + gain for name, gain in gains.items()}},
        "gain": {
            "pass@1": 0.1,
            "interval": [0.08, 0.12],
            "by_task": gains,
            "by_task_interval": {name: [value - half, value + half] for name, (value, half) in changes.items()},
        },
    }


def lines(data: dict[str, Any]) -> list[str]:
    console = Console(width=160, record=True, color_system=None)
    with console.capture() as captured:
        console.print(before_after_table(data))
    return captured.get().splitlines()


def line(data: dict[str, Any], name: str) -> str:
    [found] = [text for text in lines(data) if name in text]
    return found


def test_marks_stand_where_the_interval_lies_beyond_zero() -> None:
    data = summary(up=(0.2, 0.1), down=(-0.2, 0.1), maybe=(0.05, 0.1), touches=(0.1, 0.1))
    assert "\u2713" in line(data, "up ") and "\u25bc" not in line(data, "up ")
    assert "\u25bc" in line(data, "down") and "\u2713" not in line(data, "down")
    for name in ("maybe", "touches"):
        assert "\u2713" not in line(data, name) and "\u25bc" not in line(data, name)
    assert "\u2713" in line(data, "all tasks")


def test_rows_hold_rates_and_gains_with_their_intervals() -> None:
    data = summary(up=(0.2, 0.1), down=(-0.2, 0.1))
    for words in ("40.0%", "60.0%", "+20.0", "(10 to 30)"):
        assert words in line(data, "up ")
    assert "\u221220.0" in line(data, "down")
    assert "(38\u201342)" in line(data, "all tasks")


def test_the_largest_gain_comes_first_and_the_mean_last() -> None:
    data = summary(low=(-0.1, 0.0), high=(0.3, 0.0), middle=(0.1, 0.0))
    assert [row.name for row in by_task(data)] == ["high", "middle", "low"]
    found = [name for text in lines(data) for name in ("high", "middle", "low", "all tasks") if name in text]
    assert found == ["high", "middle", "low", "all tasks"]


def test_without_an_interval_there_is_a_gain_and_no_mark() -> None:
    data = {"before": {"pass@1": 0.4, "by_task": {"a": 0.4}}, "after": {"pass@1": 0.6, "by_task": {"a": 0.6}}}
    [row] = by_task(data)
    assert row.verdict == "unknown" and row.change is not None and abs(row.change.value - 0.2) < 1e-12
    assert "\u2713" not in line(data, "all tasks") and "+20.0" in line(data, "all tasks")


def test_an_unfinished_summary_has_a_table_too() -> None:
    assert "\u2013" in line({}, "all tasks")
    assert "40.0%" in line({"before": {"pass@1": 0.4, "by_task": {"a": 0.1}}}, "all tasks")
    assert overall({}).verdict == "unknown"


def test_names_are_not_markup() -> None:
    assert "[red]x" in line(summary(**{"[red]x": (0.1, 0.2)}), "[red]x")


def test_the_fake_runs_families_fall_where_they_should(finished: Any) -> None:
    from groupwise.report.reading import read_run

    verdicts = {row.name: row.verdict for row in by_task(read_run(finished).summary)}
    assert verdicts.pop(FORGOTTEN) == "loss"
    assert verdicts.pop(NEVER_LEARNED) == "level"
    assert set(verdicts.values()) == {"gain"}
