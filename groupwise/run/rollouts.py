"""Rollouts on disk: one Parquet file an update, written beside and renamed."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from groupwise.run.disk import writing
from groupwise.types import Rollout


def rollouts_path(folder: Path, step: int) -> Path:
    """Where the rollouts of update `step` are."""
    return folder / f"step-{step:06d}.parquet"


def write_rollouts(folder: Path, step: int, rollouts: Sequence[Rollout]) -> Path:
    """Every rollout of update `step`, the dropped ones too, as `step-000001.parquet`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "step": [step] * len(rollouts),
        "rollout": list(range(len(rollouts))),
        "group": [r.group for r in rollouts],
        "prompt_id": [r.prompt.id for r in rollouts],
        "task": [r.prompt.task for r in rollouts],
        "domain": [r.prompt.domain for r in rollouts],
        "prompt": [r.prompt.text for r in rollouts],
        "completion": [r.completion.text for r in rollouts],
        "answer": [r.prompt.answer for r in rollouts],
        "reward": [r.reward if math.isfinite(r.reward) else None for r in rollouts],
        "rewards": [json.dumps(r.rewards) for r in rollouts],
        "advantage": [r.advantage for r in rollouts],
        "finish_reason": [r.completion.finish_reason for r in rollouts],
        "length": [len(r.completion.token_ids) for r in rollouts],
        "prompt_length": [len(r.prompt.token_ids) for r in rollouts],
        "policy_version": [r.completion.policy_version for r in rollouts],
        "logprob_mean": [sum(r.completion.logprobs) / max(1, len(r.completion.logprobs)) for r in rollouts],
        "dropped": [r.dropped for r in rollouts],
        "path": [list(r.path) for r in rollouts],
        "embedding": _embeddings(rollouts),
        "difficulty": [json.dumps(r.prompt.metadata.get("difficulty", {}), default=str) for r in rollouts],
    }
    half = pa.list_(pa.float16())
    types = {
        "path": pa.list_(pa.int64()),
        "embedding": half,
        "answer": pa.string(),
        "reward": pa.float64(),
        "dropped": pa.string(),
    }
    table = pa.table({name: pa.array(values, type=types.get(name)) for name, values in columns.items()})
    path = rollouts_path(folder, step)
    beside = folder / f".{path.name}.tmp"
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, beside, compression="zstd")
        beside.replace(path)
    return path


def _embeddings(rollouts: Sequence[Rollout]) -> list[Any]:
    """[N] what each prompt is about, on the first of its rollouts; None elsewhere."""
    seen: set[str] = set()
    out: list[Any] = []
    for rollout in rollouts:
        new = rollout.prompt.embedding is not None and rollout.prompt.id not in seen
        seen.add(rollout.prompt.id)
        out.append(np.asarray(rollout.prompt.embedding, np.float16) if new else None)
    return out


def forget_after(folder: Path, step: int) -> None:
    """Remove the files of updates after `step`, which a resumed run will make again."""
    for path in folder.glob("step-*.parquet"):
        if int(path.stem.removeprefix("step-")) > step:
            path.unlink()
