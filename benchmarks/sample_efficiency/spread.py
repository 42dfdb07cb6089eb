"""What resampled updates say: the trace of their covariance, their bias, and the theory beside it."""

from __future__ import annotations

from typing import Any

import numpy as np

from groupwise.types import Floats
from sample_efficiency.resampling import Pool, Trials


def components(rewards: Floats) -> tuple[float, float]:
    """Between and within variance of rewards [P, C]: one-way analysis of variance."""
    within = float(rewards.var(axis=1, ddof=1).mean())
    return max(0.0, float(rewards.mean(axis=1).var(ddof=1)) - within / rewards.shape[1]), within


def theory(name: str, group: int, rho: float) -> float | None:
    """E A^2 / s_w with many prompts, where there is a formula. rho: between share of the rewards' variance.

    rloo G/(G-1); grpo, whose advantages are (G-1)/G of those, (G-1)/G; global 1/(1 - rho); a tree of one level
    1 + rho/(1 + (G-2) rho), which says nothing of what domains and history add.
    """
    if name == "rloo":
        return group / (group - 1)
    if name == "grpo":
        return (group - 1) / group
    if name == "global":
        return 1 / (1 - rho)
    if name.startswith("hierarchical"):
        return 1 + rho / (1 + (group - 2) * rho)
    return None


def trace(updates: np.ndarray) -> tuple[float, float]:
    """Trace of the covariance of updates [R, D], and its standard error."""
    times = len(updates)
    squares = np.square(updates - updates.mean(0)).sum(1)
    return float(squares.sum() / (times - 1)), float(squares.std(ddof=1) / np.sqrt(times))


def bias(trials: Trials, reference: Trials) -> dict[str, float]:
    """How the mean gradient differs from the reference's, judged by how much prompts [P] differ in it.

    along, along_error   the difference in the direction of the reference's mean, as a share of its length
    along_z              the same in standard errors: |z| < 2 where both are unbiased
    rms_z                root mean square of z over the D projected coordinates: about 1 where both are unbiased
    """
    difference, mean = trials.by_prompt - reference.by_prompt, reference.by_prompt.mean(0)
    along = difference @ mean / float(mean @ mean)
    error = _standard_error(along)
    z = difference.mean(0) / np.maximum(_standard_error(difference), 1e-30)
    return {
        "along": float(along.mean()),
        "along_error": float(error),
        "along_z": float(along.mean() / max(error, 1e-30)),
        "rms_z": float(np.sqrt(np.square(z).mean())),
    }


def between_prompts(pool: Pool, reference: Trials, rollouts: int, group: int) -> float:
    """The part of the trace that no baseline can touch: prompts of one family differ in their true gradients.

    Estimated from the prompts' mean gradients under the reference, less what their finite number of rollouts explains.
    """
    centred = pool.rewards - (pool.rewards.sum(1, keepdims=True) - pool.rewards) / (pool.rewards.shape[1] - 1)
    noise = (centred[:, :, None] * pool.gradients).var(axis=1, ddof=1).sum(1) / pool.rewards.shape[1]
    parts = []
    for family in np.unique(pool.families):
        mine = pool.families == family
        if mine.sum() > 1:
            parts.append(reference.by_prompt[mine].var(axis=0, ddof=1).sum() - noise[mine].mean())
    return max(0.0, float(np.mean(parts))) * group / rollouts if parts else 0.0


def rows(pool: Pool, found: dict[int, dict[str, Trials]], rollouts: int) -> list[dict[str, Any]]:
    """One row an estimator and group size. `trace` is relative to s_w E|g|^2 / N, that of the ideal baseline's noise
    if reward and gradient were independent; `trace_unbiased` is divided by the square of what is left of the mean.
    """
    between, within = components(pool.rewards)
    rho = between / (between + within)
    unit = within * float(np.square(pool.gradients).sum(2).mean()) / rollouts
    out = []
    for group, by_name in found.items():
        reference = by_name["oracle"]
        prompts = between_prompts(pool, reference, rollouts, group) / unit
        for name, trials in by_name.items():
            spread, error = trace(trials.updates)
            off = bias(trials, reference)
            out.append(
                {
                    "estimator": name,
                    "group_size": group,
                    "trace": spread / unit,
                    "trace_error": error / unit,
                    "trace_unbiased": spread / unit / max(1 + off["along"], 1e-9) ** 2,
                    "trace_of_prompts": prompts,
                    "advantage_square_over_within": trials.squares / within,
                    "theory": theory(name, group, rho),
                    "bias": off,
                }
            )
    return out


def _standard_error(values: np.ndarray) -> np.ndarray:
    """Of the mean over the first axis."""
    return np.asarray(values.std(axis=0, ddof=1) / np.sqrt(len(values)))
