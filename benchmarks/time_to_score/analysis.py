"""How much sooner a curve reaches the other's end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import mean
from typing import Any

import numpy as np

Points = Sequence[Mapping[str, Any]]
DRAWS = 10_000  # of the bootstrap


def score(point: Mapping[str, Any]) -> float:
    """Mean pass@1 of the tasks."""
    return mean(point["by_task"].values())


def seconds_to(points: Points, target: float) -> float | None:
    """Seconds of training until the mean pass@1 first reaches `target`; between evaluations on a straight line."""
    if score(points[0]) >= target:
        return float(points[0]["seconds"])
    for before, after in pairwise(points):
        low, high = score(before), score(after)
        if high >= target:
            share = (target - low) / (high - low)
            return float(before["seconds"] + share * (after["seconds"] - before["seconds"]))
    return None


def compare(trl: Points, ours: Points) -> dict[str, Any]:
    """Both curves on the way to TRL's final score, by the same rule: the first crossing counts.

    Where ours never gets there, its whole training counts, and `reached` says so.
    """
    target = score(trl[-1])
    mine, its = seconds_to(ours, target), seconds_to(trl, target)
    assert its is not None
    seconds = ours[-1]["seconds"] if mine is None else mine
    return {
        "target": target,
        "start": score(trl[0]),
        "ours_final": score(ours[-1]),
        "trl_seconds": its,
        "ours_seconds": seconds,
        "reached": mine is not None,
        "ratio": its / seconds,
        "update_ratio": (trl[-1]["seconds"] / trl[-1]["rollouts"]) / (ours[-1]["seconds"] / ours[-1]["rollouts"]),
    }


def interval(ratios: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Geometric mean of the ratios [S], and its 95 % percentile bootstrap over seeds."""
    logs = np.log(np.asarray(ratios, dtype=np.float64))
    drawn = np.random.default_rng(seed).integers(len(logs), size=(DRAWS, len(logs)))
    low, high = np.exp(np.quantile(logs[drawn].mean(axis=1), [0.025, 0.975]))
    return float(np.exp(logs.mean())), float(low), float(high)
