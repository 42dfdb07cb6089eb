"""What decides which prompts are alike: meaning, past rewards, complexity and time, as one vector a prompt.

Each feature f becomes a block phi_f that is a unit vector. With weights w_f that sum to 1 the prompt's vector is the
blocks times sqrt(w_f), one after another, so that the inner product of two prompts

    x . x' = sum_f w_f phi_f . phi_f'

is the weighted mean of their four similarities, each in [-1, 1]. What is not known of a prompt counts as average, so
that a new prompt can join those that are known better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groupwise.types import Floats

Vectors = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Features:
    """What is known of N rollouts' prompts *before* their rewards are: the past only. NaN: unknown."""

    embedding: NDArray[np.floating[Any]]  # [N, E] any length; centred, so that unrelated prompts have similarity near 0
    reward: Floats  # [N, R] of earlier updates, e.g. the posterior pass rate
    complexity: Floats  # [N, C] e.g. logs of the prompt's length and of its last completions', difficulty
    time: Floats  # [N] in [0, 1]: share of the run that is over


class Standardiser:
    """Running mean and spread of each column, over all rows so far."""

    def __init__(self) -> None:
        self._count, self._mean, self._squares = np.zeros(0), np.zeros(0), np.zeros(0)  # each [C]

    def __call__(self, values: Floats) -> Floats:
        """Add `values` [P, C] (NaN: unknown), and return them in standard deviations from the mean so far."""
        values = np.asarray(values, np.float64)
        if not len(self._count):
            self._count, self._mean, self._squares = (np.zeros(values.shape[1]) for _ in range(3))
        known = np.isfinite(values)
        batch = known.sum(0)
        sums = np.where(known, values, 0.0).sum(0)
        means = sums / np.maximum(batch, 1)
        spread = (np.where(known, values - means, 0.0) ** 2).sum(0)
        total = self._count + batch
        shift = np.where(batch > 0, means - self._mean, 0.0)
        share = batch / np.maximum(total, 1)
        self._squares += spread + shift**2 * self._count * share
        self._mean += shift * share
        self._count = total
        deviation = np.sqrt(self._squares / np.maximum(total, 1))
        return np.asarray((values - self._mean) / np.where(deviation > 0, deviation, 1.0))

    def state(self) -> dict[str, Any]:
        return {"count": self._count.copy(), "mean": self._mean.copy(), "squares": self._squares.copy()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._count, self._mean, self._squares = (
            np.array(state[name], np.float64) for name in ("count", "mean", "squares")
        )


def angles(values: Floats) -> Floats:
    """Blocks [P, 2 C] of values [P, C] in standard deviations (NaN: unknown, taken as 0); C >= 1.

    Each value is an angle, pi/2 tanh(z/2): equal values have similarity 1, opposite extremes -1. The block is a unit
    vector, and two prompts' similarity the mean over the columns.
    """
    angle = np.pi / 2 * np.tanh(np.where(np.isfinite(values), values, 0.0) / 2)
    return np.asarray(np.concatenate([np.cos(angle), np.sin(angle)], axis=1) / np.sqrt(values.shape[1]))


def combine(weights: Mapping[str, float], features: Features, reward: Floats, complexity: Floats) -> Vectors:
    """Vectors [P, F] of P prompts, by the formula above; `reward` and `complexity` are those columns standardised.

    A feature of weight 0 takes no room.
    """
    semantic = np.nan_to_num(np.asarray(features.embedding, np.float64))
    norm = np.linalg.norm(semantic, axis=1, keepdims=True)
    half_turn = np.pi * (np.asarray(features.time, np.float64)[:, None] - 0.5)
    blocks = {
        "semantic": semantic / np.where(norm > 0, norm, 1.0),
        "reward": angles(reward),
        "complexity": angles(complexity),
        "time": np.concatenate([np.cos(half_turn), np.sin(half_turn)], axis=1),
    }
    total = sum(weights.values())
    parts = [np.sqrt(weights[name] / total) * block for name, block in blocks.items() if weights[name] > 0]
    return np.concatenate(parts, axis=1).astype(np.float32)
