"""A run folder as the report sees it. What is missing, unfinished or unreadable is left out and said, never fatal."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from groupwise.report.tree import Tree, read_tree
from groupwise.run.folder import GROUPS, METRICS, PROFILE, RECIPE, ROLLOUTS, SUMMARY
from groupwise.run.groups import read_groups
from groupwise.run.metrics import read_metrics
from groupwise.types import Floats, Ints, UserError


@dataclass(frozen=True, kw_only=True)
class Run:
    """All that the sections read. S rows of metrics, one an update."""

    name: str
    recipe_text: str  # as it lies in the folder; empty where there is none
    recipe: Mapping[str, Any]
    steps: Ints  # [S] strictly rising
    metrics: Mapping[str, Floats]  # name -> [S]; nan where a row has no number of that name
    groups_file: Path  # the groups of each update, see run/groups.py; not there in older runs
    summary: Mapping[str, Any]  # empty until the run is finished
    profile: Mapping[str, Any]  # empty where it was not asked for
    rollout_files: tuple[Path, ...]  # in the order of the updates
    problems: tuple[str, ...]  # what could not be read, each a sentence

    @cached_property
    def tree(self) -> Tree:
        """The groups of the whole run, from the coarsest down."""
        return read_tree(read_groups(self.groups_file))

    @property
    def finished(self) -> bool:
        return bool(self.summary)

    @property
    def steps_done(self) -> int:
        return int(self.steps[-1]) if len(self.steps) else 0

    @property
    def steps_asked(self) -> int:
        """Updates that the recipe asks for; 0 where it does not say."""
        asked = self.setting("steps")
        return asked if isinstance(asked, int) else 0

    def setting(self, key: str) -> Any:
        """The recipe's value at a dotted key, None where it has none: `rollout.group_size`."""
        value: Any = self.recipe
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def column(self, key: str) -> Floats:
        """[S] the metric `key`; all nan where it was never recorded."""
        return self.metrics.get(key, np.full(len(self.steps), np.nan))

    def rollouts_by_step(self) -> Floats:
        """[S] rollouts drawn for each update, from the running total; nan where that is not known."""
        total = self.column("rollouts/total")
        before = np.concatenate([[0.0 if len(self.steps) and self.steps[0] == 1 else np.nan], total[:-1]])
        gaps = np.diff(self.steps, prepend=0)
        return np.where(gaps == 1, total - before[: len(total)], np.nan)


def read_run(folder: Path) -> Run:
    """Read `folder`. Raises UserError where it is no run."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder")
    if not any((folder / name).exists() for name in (RECIPE, METRICS, SUMMARY)):
        raise UserError(f"{folder} is not a run: it has no {RECIPE}")
    problems: list[str] = []
    recipe_text, recipe = _recipe(folder / RECIPE, problems)
    steps, metrics = _columns(read_metrics(folder / METRICS))
    return Run(
        name=folder.resolve().name,
        recipe_text=recipe_text,
        recipe=recipe,
        steps=steps,
        metrics=metrics,
        groups_file=folder / GROUPS,
        summary=_json(folder / SUMMARY, problems),
        profile=_json(folder / PROFILE, problems),
        rollout_files=tuple(sorted((folder / ROLLOUTS).glob("step-*.parquet"))),
        problems=tuple(problems),
    )


def _recipe(path: Path, problems: list[str]) -> tuple[str, Mapping[str, Any]]:
    if not path.exists():
        problems.append(f"{path.name} is missing, so the page cannot say how the run was set up.")
        return "", {}
    text = path.read_text(errors="replace")
    try:
        recipe = yaml.safe_load(text)
    except yaml.YAMLError:
        recipe = None
    if not isinstance(recipe, Mapping):
        problems.append(f"{path.name} could not be read.")
        return text, {}
    return text, recipe


def _json(path: Path, problems: list[str]) -> Mapping[str, Any]:
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(errors="replace"))
    except ValueError:
        found = None
    if not isinstance(found, Mapping):
        problems.append(f"{path.name} could not be read.")
        return {}
    return found


def _columns(rows: Sequence[Any]) -> tuple[Ints, dict[str, Floats]]:
    """Rows as columns, in the order of the steps; of two rows of one step the later counts."""
    by_step = {row["step"]: row for row in rows if isinstance(row, Mapping) and isinstance(row.get("step"), int)}
    ordered = [by_step[step] for step in sorted(by_step)]
    keys = dict.fromkeys(key for row in ordered for key in row if key != "step")
    columns = {key: np.array([_number(row.get(key)) for row in ordered], dtype=np.float64) for key in keys}
    steps = np.array(sorted(by_step), dtype=np.int64)
    return steps, {key: column for key, column in columns.items() if np.isfinite(column).any()}


def _number(value: Any) -> float:
    good = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if good else math.nan
