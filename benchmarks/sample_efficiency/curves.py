"""Learning curves: lists of {"rollouts": n, "by_task": {task: pass@1}} with rising n, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from groupwise.types import Floats

Curve = Sequence[Mapping[str, Any]]
DRAWS = 4000  # of the bootstrap


def points(curve: Curve) -> tuple[Floats, Floats]:
    """Rollouts [E] and the mean pass@1 of the tasks [E]."""
    rollouts = np.array([point["rollouts"] for point in curve], dtype=np.float64)
    return rollouts, np.array([np.mean(list(point["by_task"].values())) for point in curve])


def area(curve: Curve) -> float:
    """Mean pass@1 over the rollouts of the run: the area under the curve by trapezoids, divided by its width."""
    return _area(*points(curve))


def area_by_task(curve: Curve) -> dict[str, float]:
    rollouts = points(curve)[0]
    return {
        task: _area(rollouts, np.array([point["by_task"][task] for point in curve])) for task in curve[0]["by_task"]
    }


def final(curve: Curve) -> float:
    return float(points(curve)[1][-1])


def worst(curve: Curve) -> float:
    """pass@1 of the task that is last at the end."""
    return float(min(curve[-1]["by_task"].values()))


def rollouts_to(rollouts: Floats, rates: Floats, target: float) -> float | None:
    """Rollouts after which a curve first reaches `target`, between evaluations on a straight line; None if never."""
    reached = np.flatnonzero(rates >= target)
    if not reached.size:
        return None
    last = int(reached[0])
    if last == 0:
        return float(rollouts[0])
    share = (target - rates[last - 1]) / (rates[last] - rates[last - 1])
    return float(rollouts[last - 1] + share * (rollouts[last] - rollouts[last - 1]))


def rollouts_ratio(mine: Sequence[Curve], others: Sequence[Curve], draws: int = DRAWS, seed: int = 0) -> list[float]:
    """The others' rollouts by those after which mine reach the others' final score, and its 95 % bootstrap interval.

    mine, others: a curve a seed, in the same order, evaluated after the same rollouts. The score is that of the mean
    curve of the seeds, since the first crossing of each noisy curve comes too early. 0: never reached.
    """
    rollouts = points(mine[0])[0]
    rates, theirs = (np.array([points(curve)[1] for curve in curves]) for curves in (mine, others))
    picked = np.random.default_rng(seed).integers(len(mine), size=(draws, len(mine)))
    ratios = [
        _ratio(rollouts, rates[seeds].mean(0), theirs[seeds].mean(0)[-1]) for seeds in (np.arange(len(mine)), *picked)
    ]
    return [ratios[0], *np.quantile(ratios[1:], [0.025, 0.975]).tolist()]


def _ratio(rollouts: Floats, rates: Floats, target: float) -> float:
    needed = rollouts_to(rollouts, rates, target)
    return 0.0 if needed is None else float(rollouts[-1] / max(needed, 1.0))


def iqm(values: Floats) -> float:
    """Mean of the middle half of all values (Agarwal et al., arXiv 2108.13264)."""
    return float(_middle_half(np.asarray(values).reshape(1, -1))[0])


def interval(values: Floats, draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap, over seeds, of the `iqm` of values [S] or [S, tasks].

    A seed is drawn with all its tasks: one training learns them all. In that paper each task has runs of its own.
    """
    table = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    seeds = np.random.default_rng(seed).integers(len(table), size=(draws, len(table)))
    found = _middle_half(table[seeds].reshape(draws, -1))
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def _middle_half(values: Floats) -> Floats:
    """[D] of each row of values [D, K]."""
    from scipy.stats import trim_mean

    return np.asarray(trim_mean(values, 0.25, axis=1))


def _area(rollouts: Floats, rates: Floats) -> float:
    width = rollouts[-1] - rollouts[0]
    return float(np.trapezoid(rates, rollouts) / width) if width else float(rates[0])
