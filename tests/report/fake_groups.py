"""The groups of a made-up run: each family is two clusters, one easier than the other, that lie side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .families import Family

NAMES = {
    "prompt": ("prompt",),
    "domain": ("domain", "prompt"),
    "task": ("domain", "task", "prompt"),
    "clusters": ("domain", "cluster@0.5", "cluster@0.7", "prompt"),
}
WIDTH = 16  # of the embeddings
JUDGED = 8  # updates before the clusters are used


def place(rng: np.random.Generator, kind: str, families: Sequence[Family], drawn: Sequence[dict[str, Any]]) -> None:
    """Give the rollouts of an update their paths, and the first of each prompt its embedding."""
    names, domains = [f.name for f in families], list(dict.fromkeys(f.domain for f in families))
    centres = np.random.default_rng(5)
    of_family, of_half = centres.normal(0, 1, (len(families), WIDTH)), centres.normal(0, 0.4, (2, WIDTH))
    half: dict[str, int] = {}
    for rollout in drawn:
        is_first = rollout["prompt_id"] not in half
        hard = half.setdefault(rollout["prompt_id"], int(rng.random() < 0.3))
        family = names.index(rollout["task"])
        ids = {
            "domain": domains.index(rollout["domain"]),
            "task": family,
            "cluster@0.5": family,
            "cluster@0.7": 2 * family + hard,
            "prompt": 1000 * rollout["step"] + len(half),
        }
        vector = of_family[family] + of_half[hard] + rng.normal(0, 0.18, WIDTH)
        rollout["path"] = [] if rollout["dropped"] else [ids[name] for name in NAMES[kind]]
        rollout["embedding"] = vector.astype(np.float16) if kind == "clusters" and is_first else None


def write_groups(folder: Path, kind: str, drawn: Sequence[Sequence[dict[str, Any]]]) -> None:
    """`groups.jsonl` of all updates."""
    lines = []
    for step, rollouts in enumerate(drawn, start=1):
        judged = kind == "clusters" and step > JUDGED
        level = "learned" if judged or kind != "clusters" else "flat"
        beats = "clusters beat random ones of the same sizes (-3.2 standard errors)"
        early = "clusters are judged after 8 updates"
        reason = "no fallback for these groups" if kind != "clusters" else beats if judged else early
        row = {"step": step, "names": NAMES[kind], "level": level, "reason": reason, "groups": _nodes(kind, rollouts)}
        lines.append(json.dumps(row) + "\n")
    (folder / "groups.jsonl").write_text("".join(lines))


def _nodes(kind: str, rollouts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    nodes = []
    for column, name in enumerate(NAMES[kind][:-1]):
        members: dict[int, list[dict[str, Any]]] = {}
        for rollout in rollouts:
            if rollout["dropped"] is None:
                members.setdefault(rollout["path"][column], []).append(rollout)
        for number, inside in sorted(members.items()):
            nodes.append(
                {
                    "level": name,
                    "id": number,
                    "label": inside[0]["domain" if name == "domain" else "task"],
                    "rollouts": len(inside),
                    "parent": inside[0]["path"][column - 1] if column else None,
                    "reward": float(np.mean([r["reward"] for r in inside])),
                }
            )
    return nodes


def metrics(rng: np.random.Generator, kind: str, step: int) -> dict[str, float | None]:
    """What the row of an update says of its groups; the first one knows no variance yet."""
    known = step > 1
    sizes = {"domain": 0.02, "task": 0.01, "cluster@0.5": 0.015, "cluster@0.7": 0.012, "prompt": 0.03, "within": 0.13}
    variances = {name: sizes[name] * known * float(rng.uniform(0.8, 1.2)) for name in (*NAMES[kind], "within")}
    chance, plain = float(rng.normal(1, 0.08)), 0.21
    errors = {"hierarchical": 0.16, "random": 0.185, "flat": 0.18, "global": plain, "prompt": 0.17}
    whole = sum(variances.values()) or 1.0
    row: dict[str, float | None] = {
        **{f"variance/{name}": variance for name, variance in variances.items()},
        **{f"groups/share/{name}": variance / whole for name, variance in variances.items()},
        **{
            f"baseline/error/{name}": chance
            * (error * float(rng.normal(1, 0.02)) if known and error != plain else plain)
            for name, error in errors.items()
        },
        "groups/shrinkage": 0.3 if known else 1.0,
        "history/half_life": 8.0 if step > 5 else None,
    }
    if kind == "clusters":
        row |= {f"groups/{name}": float(step // 4) for name in ("splits", "merges", "moves")}
        row |= {"groups/icc": 0.3 + 0.01 * step, "groups/fallback": 0.0 if step > JUDGED else 1.0}
    return row
