"""The hierarchical baseline as one linear system: slow, plain, and the oracle of the quick ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from groupwise.types import Floats, Ints

History = tuple[Floats, Floats, Ints]


def covariance(levels: Ints, counts: Floats, variances: Sequence[float]) -> Floats:
    """[N, N] of rewards [N] (means of `counts` [N] rollouts each) in the groups of levels [N, L]."""
    result = np.diag(variances[-1] / counts)
    for ids, variance in zip(levels.T, variances, strict=False):
        result += variance * (ids[:, None] == ids)
    return result


def dense_advantages(
    rewards: Floats,
    levels: Ints,
    variances: Sequence[float],
    *,
    root_mean: float = 0.0,
    root_precision: float = 0.0,
    history: History | None = None,
) -> Floats:
    """A_i = [P r]_i / [P]_ii; P is K^-1 less its projection on 1, or, with a prior of the root, (K + V_0 11')^-1."""
    past = history or (np.zeros(0), np.zeros(0), np.zeros((0, levels.shape[1]), dtype=np.int64))
    r = np.concatenate([rewards, past[0] / past[1]])
    k = covariance(np.concatenate([levels, past[2]]), np.concatenate([np.ones(len(rewards)), past[1]]), variances)
    if root_precision:
        p, r = np.linalg.inv(k + 1 / root_precision), r - root_mean
    else:
        inverse, one = np.linalg.inv(k), np.ones(len(r))
        p = inverse - np.outer(inverse @ one, inverse @ one) / (one @ inverse @ one)
    own = np.diag(p)[: len(rewards)]
    if len(r) == 1 and not root_precision:
        return np.zeros(1)
    return np.asarray((p @ r)[: len(rewards)] / own)


@st.composite
def trees(draw: st.DrawFn, most_levels: int = 4, most_rows: int = 24) -> Ints:
    """levels [N, L]: unbalanced, ids scattered and unique in their column, rows in any order."""
    depth, rows = draw(st.integers(1, most_levels)), draw(st.integers(1, most_rows))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    finest = rng.geometric(rng.uniform(0.05, 0.6), rows)  # a few large groups and many small ones
    columns = [finest]
    for _ in range(depth - 1):
        columns.append(columns[-1] // rng.integers(1, 5))
    return np.stack([rng.permutation(200)[ids % 200] - 50 for ids in reversed(columns)], axis=1)


@st.composite
def histories(draw: st.DrawFn, levels: Ints) -> History:
    """Past rewards of some prompts of the batch and of prompts it does not have, some of them in several entries."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    known = levels[rng.random(len(levels)) < 0.5]
    absent = levels[rng.random(len(levels)) < 0.5].copy()
    absent[:, -1] = 1000 + np.arange(len(absent))
    absent[rng.random(len(absent)) < 0.3, :-1] += 500  # nor their groups
    ids = np.concatenate([known, absent, absent[: len(absent) // 3]])
    counts = rng.exponential(3.0, len(ids)) + 1e-3
    return counts * rng.normal(size=len(ids)), counts, ids
