"""What an evaluation before and one after say about each family, and whether a change is more than noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from groupwise.report.words import Interval

ALL = "all tasks"
Verdict = Literal["gain", "loss", "level", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A share, or a difference of shares, with its 95 % interval where there is one."""

    value: float
    interval: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class Gain:
    """One row of the comparison."""

    name: str
    domain: str = ""
    before: Rate | None = None
    after: Rate | None = None
    change: Rate | None = None

    @property
    def verdict(self) -> Verdict:
        """`gain` or `loss` where the interval of the change lies beyond 0, `level` where it holds 0."""
        if self.change is None or self.change.interval is None:
            return "unknown"
        low, high = self.change.interval
        return "gain" if low > 0 else "loss" if high < 0 else "level"


def overall(summary: Mapping[str, Any]) -> Gain:
    """The mean of the tasks."""
    before, after, gain = _parts(summary)
    return Gain(
        name=ALL,
        before=_rate(before.get("pass@1"), before.get("pass@1_interval")),
        after=_rate(after.get("pass@1"), after.get("pass@1_interval")),
        change=_change(gain.get("pass@1"), gain.get("interval"), before.get("pass@1"), after.get("pass@1")),
    )


def by_task(summary: Mapping[str, Any]) -> list[Gain]:
    """Every task, the largest gain first; tasks without a comparison last, in the order of the recipe."""
    before, after, gain = _parts(summary)
    old, new, change = (_mapping(part.get("by_task")) for part in (before, after, gain))
    spans = [_mapping(part.get("by_task_interval")) for part in (before, after, gain)]
    domains = {**_mapping(before.get("domains")), **_mapping(after.get("domains"))}
    rows = [
        Gain(
            name=task,
            domain=str(domains.get(task, "")),
            before=_rate(old.get(task), spans[0].get(task)),
            after=_rate(new.get(task), spans[1].get(task)),
            change=_change(change.get(task), spans[2].get(task), old.get(task), new.get(task)),
        )
        for task in dict.fromkeys([*old, *new])
    ]
    return sorted(rows, key=lambda row: -row.change.value if row.change else float("inf"))


def _parts(summary: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]:
    return _mapping(summary.get("before")), _mapping(summary.get("after")), _mapping(summary.get("gain"))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _rate(value: Any, interval: Any = None) -> Rate | None:
    if value is None:
        return None
    return Rate(value=float(value), interval=(float(interval[0]), float(interval[1])) if interval else None)


def _change(value: Any, interval: Any, before: Any, after: Any) -> Rate | None:
    if value is None and before is not None and after is not None:
        value = after - before
    return _rate(value, interval)
