"""Where the prompts of late lie: their embeddings in the two directions in which they differ most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from groupwise.types import Floats

MOST_PROMPTS = 1500
COLUMNS = ("prompt_id", "step", "task", "domain", "prompt", "reward", "path")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A prompt as it was last asked."""

    step: int
    task: str
    domain: str
    text: str
    rewards: tuple[float, ...]  # of those of its rollouts that count
    path: tuple[int, ...]  # its groups, coarse to fine; empty where none of its rollouts counts
    embedding: Floats  # [E]


def recent_prompts(files: Sequence[Path], most: int = MOST_PROMPTS) -> list[Asked]:
    """At most `most` prompts that have an embedding, the latest first. `files`: in the order of the updates.

    Files that cannot be read are passed over; the first without an embedding ends the search.
    """
    import pyarrow as pa

    found: dict[str, Asked] = {}
    for file in reversed(files):
        try:
            update = _of_update(file)
        except (pa.ArrowInvalid, OSError):
            continue
        if not update or len(found) >= most:
            break
        found = {**found, **{key: asked for key, asked in update.items() if key not in found}}
    return list(found.values())[:most]


def principal_axes(vectors: ArrayLike) -> tuple[Floats, float]:
    """vectors [P, E] -> positions [P, 2] along the two principal axes, and the share of the variance that they hold.

    Principal component analysis by singular values (Pearson 1901). Each axis points to where its largest coordinate is,
    so that the same vectors always give the same map; an axis that there is not is 0.
    """
    values = np.asarray(vectors, np.float64)
    centred = values - values.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    axes = left[:, :2] * singular[:2]
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    positions = np.zeros((len(centred), 2))
    positions[:, : axes.shape[1]] = axes * np.where(largest < 0, -1.0, 1.0)
    total = float(np.square(singular).sum())
    return positions, float(np.square(singular[:2]).sum()) / total if total else 0.0


def _of_update(file: Path) -> dict[str, Asked]:
    """The prompts of an update by id; none where they have no embeddings."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(file, pre_buffer=False) as opened:
        if "embedding" not in opened.schema_arrow.names:
            return {}
        table = opened.read(columns=[*COLUMNS, "embedding"], use_threads=False)
    embeddings = {
        key.as_py(): vector.values.to_numpy(zero_copy_only=False).astype(np.float64)
        for key, vector in zip(table["prompt_id"], table["embedding"], strict=True)
        if vector.is_valid
    }
    members: dict[str, list[dict[str, Any]]] = {key: [] for key in embeddings}
    for row in table.select(COLUMNS).to_pylist():
        if row["prompt_id"] in members:
            members[row["prompt_id"]].append(row)
    return {
        key: Asked(
            step=rows[0]["step"],
            task=rows[0]["task"],
            domain=rows[0]["domain"],
            text=rows[0]["prompt"],
            rewards=tuple(row["reward"] for row in rows if row["reward"] is not None),
            path=next((tuple(row["path"]) for row in rows if row["path"]), ()),
            embedding=embeddings[key],
        )
        for key, rows in members.items()
        if np.isfinite(embeddings[key]).all()
    }
