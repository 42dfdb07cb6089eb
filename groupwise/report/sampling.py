"""A few of the run's rollouts for the page: whole groups, from early, middle and late updates and from every task.

The choice is the same each time. It reads few files and few columns first, and the texts of the chosen groups only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MOST_ROLLOUTS = 1500
MOST_CHARACTERS = 1_200_000  # of prompts and completions together
MOST_FILES = 90  # read; of a longer run evenly spaced ones
PHASES = 3  # early, middle, late
SHARE_WITH_DROPPED = 0.1  # of the rollouts may go to groups that hold a dropped one, which are rare and worth a look
LONGEST_TEXT = 6000  # longer texts lose their middle
COLUMNS = (
    "step",
    "rollout",
    "group",
    "prompt_id",
    "task",
    "domain",
    "prompt",
    "completion",
    "answer",
    "reward",
    "rewards",
    "advantage",
    "finish_reason",
    "length",
    "logprob_mean",
    "dropped",
    "difficulty",
)

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The chosen groups in the order of the updates, each the rows of the completions of one prompt in one update."""

    groups: tuple[tuple[Row, ...], ...]
    rollouts: int  # in the whole run
    unreadable: int  # files

    @property
    def shown(self) -> int:
        return sum(len(group) for group in self.groups)


@dataclass(frozen=True, kw_only=True)
class _Group:
    """A group before its texts are read."""

    file: Path
    prompt_id: str
    size: int
    stratum: tuple[int, str]  # phase and task
    has_dropped: bool


def sample_rollouts(
    files: Sequence[Path],
    most: int = MOST_ROLLOUTS,
    most_characters: int = MOST_CHARACTERS,
    most_files: int = MOST_FILES,
) -> Sample:
    """At most `most` rollouts of at most `most_characters` in whole groups; one group at least, where there is one."""
    sizes = {file: size for file in files if (size := _size(file)) is not None}
    readable = list(sizes)
    spaced = np.unique(np.linspace(0, len(readable) - 1, min(most_files, len(readable))).round().astype(int))
    groups = [
        group for index in spaced for group in _outline(readable[index], phase=int(index) * PHASES // len(readable))
    ]
    chosen = _choose(groups, most)
    kept: list[tuple[Row, ...]] = []
    characters = 0
    for rows in _read(chosen):
        characters += len(rows[0]["prompt"]) + sum(len(row["completion"]) for row in rows)
        if kept and characters > most_characters:
            break
        kept.append(rows)
    kept.sort(key=lambda rows: (rows[0]["step"], rows[0]["rollout"]))
    return Sample(groups=tuple(kept), rollouts=sum(sizes.values()), unreadable=len(files) - len(sizes))


def _size(file: Path) -> int | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(file).num_rows)
    except (pa.ArrowInvalid, OSError):
        return None


def _outline(file: Path, phase: int) -> list[_Group]:
    """The groups of one update by their prompt, in the order in which they were drawn."""
    rows = _rows(file, ("prompt_id", "task", "dropped"))
    members: dict[str, list[Row]] = {}
    for row in rows:
        members.setdefault(row["prompt_id"], []).append(row)
    return [
        _Group(
            file=file,
            prompt_id=prompt_id,
            size=len(group),
            stratum=(phase, group[0]["task"]),
            has_dropped=any(row["dropped"] for row in group),
        )
        for prompt_id, group in members.items()
    ]


def _choose(groups: Sequence[_Group], most: int) -> list[_Group]:
    """Some with dropped rollouts first, then one of each stratum in turn, drawn without looking at the rewards."""
    rng = np.random.default_rng(0)
    shuffled = [groups[i] for i in rng.permutation(len(groups))]
    chosen: list[_Group] = []
    taken = 0

    def take(group: _Group, limit: float) -> None:
        nonlocal taken
        if not chosen or taken + group.size <= limit:
            chosen.append(group)
            taken += group.size

    with_dropped = [group for group in shuffled if group.has_dropped]
    for group in with_dropped:
        take(group, SHARE_WITH_DROPPED * most)
    strata: dict[tuple[int, str], list[_Group]] = {key: [] for key in sorted({group.stratum for group in groups})}
    already = set(map(id, chosen))
    for group in shuffled:
        if id(group) not in already:
            strata[group.stratum].append(group)
    while any(strata.values()):
        for waiting in strata.values():
            if waiting:
                take(waiting.pop(), most)
    return chosen


def _read(chosen: Sequence[_Group]) -> list[tuple[Row, ...]]:
    """The rows of the chosen groups, in the order of `chosen`."""
    found: dict[tuple[Path, str], list[Row]] = {(group.file, group.prompt_id): [] for group in chosen}
    for file in dict.fromkeys(group.file for group in chosen):
        for row in _rows(file, COLUMNS):
            if (key := (file, row["prompt_id"])) in found:
                found[key].append(_tidy(row))
    return [tuple(found[group.file, group.prompt_id]) for group in chosen]


def _rows(file: Path, columns: Sequence[str]) -> list[Row]:
    """Rows with exactly `columns`; a column that the file lacks is None, a text that it lacks is empty."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(file, pre_buffer=False) as opened:
        present = [name for name in columns if name in opened.schema_arrow.names]
        rows = opened.read(columns=present, use_threads=False).to_pylist()  # files are small: threads cost more
    texts = {"prompt_id", "task", "domain", "prompt", "completion"} & set(columns)
    empty = dict.fromkeys(columns) | dict.fromkeys(texts, "")
    return [empty | {name: value for name, value in row.items() if value is not None} for row in rows]


def _tidy(row: Row) -> Row:
    return row | {
        "prompt": shorten(row["prompt"]),
        "completion": shorten(row["completion"]),
        "answer": None if row["answer"] is None else shorten(row["answer"]),
        "rewards": _parsed(row["rewards"]),
        "difficulty": _parsed(row["difficulty"]),
    }


def shorten(text: str, longest: int = LONGEST_TEXT) -> str:
    """Take the middle out of a text longer than `longest`, and say so in its place."""
    if len(text) <= longest:
        return text
    head, tail = longest * 2 // 3, longest // 3
    return f"{text[:head]}\n[\u2026 {len(text) - head - tail:,} characters left out \u2026]\n{text[-tail:]}"


def _parsed(text: str | None) -> Any:
    try:
        return json.loads(text) if text else {}
    except ValueError:
        return {}
