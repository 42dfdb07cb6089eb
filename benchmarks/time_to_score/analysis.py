"""How much sooner a curve reaches the other's end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import mean
from typing import Any

import numpy as np
from scipy.stats import t as student

Points = Sequence[Mapping[str, Any]]


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

    Where ours never gets there, its whole training counts, so that the ratio is too high, and `reached` says so.
    ValueError where TRL learned nothing.
    """
    target = score(trl[-1])
    if target <= score(trl[0]):
        raise ValueError("TRL ends no better than it began: there is no score to race to")
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


def interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Geometric mean of the ratios [S], S > 1, and its 95 % interval by Student's t (a bootstrap of few is narrow)."""
    logs = np.log(np.asarray(ratios, dtype=np.float64))
    half = float(student.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs)))
    middle = float(logs.mean())
    return float(np.exp(middle)), float(np.exp(middle - half)), float(np.exp(middle + half))
