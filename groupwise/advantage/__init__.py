"""Advantage estimators as pure functions of arrays: one file an estimator, chosen by name with `estimate`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from numpy.typing import ArrayLike

from groupwise.advantage.global_ import global_advantages
from groupwise.advantage.grpo import grpo_advantages
from groupwise.advantage.rloo import rloo_advantages
from groupwise.advantage.scale import Scale, scaled
from groupwise.types import Floats

__all__ = [
    "ESTIMATORS",
    "Estimator",
    "Scale",
    "estimate",
    "global_advantages",
    "grpo_advantages",
    "rloo_advantages",
    "scaled",
]


@dataclass(frozen=True, kw_only=True)
class Estimator:
    """`advantages(rewards [N], levels [N, L]) -> [N]`, and how it is scaled unless told otherwise."""

    advantages: Callable[[ArrayLike, ArrayLike], Floats]
    scale: Scale
    scales: tuple[Scale, ...] = ("none", "group", "batch")  # those that make sense


ESTIMATORS: dict[str, Estimator] = {
    "grpo": Estimator(advantages=grpo_advantages, scale="group"),
    "rloo": Estimator(advantages=rloo_advantages, scale="none"),
    # not "group": where a prompt's rewards are all equal the advantage is not 0 but the standard deviation is
    "global": Estimator(advantages=global_advantages, scale="none", scales=("none", "batch")),
}


def estimate(kind: str, rewards: ArrayLike, levels: ArrayLike, scale: str | None = None) -> Floats:
    """The advantages [N] of rewards [N], float64; `scale` None is the estimator's own.

    levels [N, L]: integer ids, coarse to fine; the last column is the prompt, and groups may have any size.
    ValueError when `kind` or `scale` is not allowed, N is 0, a reward is not finite, or the shapes differ.
    """
    if kind not in ESTIMATORS:
        raise ValueError(f"unknown advantage {kind!r}; allowed: {', '.join(ESTIMATORS)}")
    estimator = ESTIMATORS[kind]
    chosen = estimator.scale if scale is None else scale
    if chosen not in estimator.scales:
        raise ValueError(f"scale {chosen!r} does not fit advantage {kind!r}; allowed: {', '.join(estimator.scales)}")
    return scaled(estimator.advantages(rewards, levels), rewards, levels, chosen)
