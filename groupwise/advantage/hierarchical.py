"""Hierarchical: the reward minus the best linear prediction of it from every other reward, in a tree of groups.

    r_i = mu + sum over levels of (effect of i's group) + noise        variances s_1 .. s_L, s_w; mu: flat or a prior
    b_i = E[r_i | all rewards but r_i, history]                        A_i = r_i - b_i

A linear mixed model's leave-one-out prediction (Robinson 1991, "That BLUP is a good thing", Statistical Science 6:15),
found by messages on the tree instead of a matrix: with K = sum_l s_l Z_l Z_l' + s_w I and
P = K^-1 - K^-1 1 (1'K^-1 1)^-1 1'K^-1 it equals A_i = [P r]_i / [P]_ii. Special cases: all s_l = 0 is `global`,
s_L = inf is `rloo`, s_L alone is shrinkage of the prompt's mean to the batch's. The baseline never contains r_i, so the
policy gradient is unbiased whatever the variances are; they must come from earlier batches.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from groupwise.advantage.inputs import checked, unrounded
from groupwise.advantage.tree import folded, from_others, parents
from groupwise.types import Floats, Ints

LEAST_NOISE = 1e-12  # relative: stands for a within-variance of 0, whose precision would be infinite
LEAST = 1e-290  # absolute: precisions of less, and sums of them, are beyond the range of floats


def hierarchical_advantages(
    rewards: ArrayLike,
    levels: ArrayLike,
    variances: ArrayLike,
    *,
    root_mean: float | None = None,
    root_precision: float = 0.0,
    history: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
) -> Floats:
    """rewards [N], levels [N, L] integer ids, coarse to fine, nested, unique in their column -> advantages [N].

    variances [L + 1]: between-variance of each level, then the within-prompt variance, in squared units of the reward;
    0 and inf are allowed. root_mean, root_precision: mean and 1/variance of the prior of mu; precision 0 is flat.
    history: sums [M], counts [M] (fractions allowed) and levels [M, L] of earlier rewards by prompt, discounted by the
    caller; they count as rollouts of their prompts, and prompts that are absent from the batch inform their groups.
    The advantage is 0 where nothing else says anything about the reward. O(N + M) after a sort; float64.
    ValueError when N is 0, a reward is not finite, ids are not nested, a variance, count or precision is negative or
    NaN, or shapes differ.
    """
    values, ids = checked(rewards, levels)
    between, within = checked_variances(variances, ids.shape[1])
    if not 0 <= root_precision < np.inf:
        raise ValueError(f"root_precision is {root_precision}; it must be finite and at least 0")
    if root_precision > 0 and (root_mean is None or not np.isfinite(root_mean)):
        raise ValueError(f"root_mean is {root_mean}; root_precision {root_precision} needs a finite one")
    centre = float(np.median(values))  # digits are not spent on what all rewards share, and equal rewards give exact 0
    offsets, precision, many = values - centre, np.full(len(values), 1 / within), None
    means = np.zeros(0)
    if history is not None:
        means, counts, paths = checked_history(history, ids.shape[1])
        said = (means - centre, counts / within)
        here = np.isin(paths[:, -1], ids[:, -1])
        if not here.all():  # nobody asks about prompts that are absent: one of each group speaks for all of them
            absent, weight = said[0][~here], said[1][~here]
            many, spokesmen = folded((weight, weight * absent), paths[~here], between[-1])
            paths = np.concatenate([paths[here], spokesmen])
            nothing = np.zeros(len(spokesmen))
            said = (np.concatenate([said[0][here], nothing]), np.concatenate([said[1][here], nothing]))
        offsets, precision = np.concatenate([offsets, said[0]]), np.concatenate([precision, said[1]])
        ids = np.concatenate([ids, paths])
    root = root_precision, root_precision * (root_mean - centre) if root_precision and root_mean is not None else 0.0
    known, information = from_others((precision, precision * offsets), parents(ids), between, root, many)
    known, information = known[: len(values)], information[: len(values)]
    baseline = np.divide(information, known, out=np.zeros_like(values), where=known > 0)
    advantages = np.where(known > 0, offsets[: len(values)] - baseline, 0.0)
    return unrounded(advantages, values, means)


def checked_variances(variances: ArrayLike, depth: int) -> tuple[Floats, float]:
    """Between-variances [L] and the within-variance, which is made positive and finite: only ratios matter."""
    given = np.asarray(variances, dtype=np.float64)
    if given.shape != (depth + 1,):
        raise ValueError(
            f"variances is {list(given.shape)}; it must be [L + 1] = [{depth + 1}], the within-variance last"
        )
    if not (given >= 0).all():
        raise ValueError(f"variances is {given.tolist()}; each must be at least 0")
    between, within = given[:-1], float(given[-1])
    if np.isinf(within):  # next to endless noise every finite variance is nothing
        return np.where(np.isinf(between), np.inf, 0.0), 1.0
    positive = between[np.isfinite(between) & (between > 0)]
    return between, max(within, LEAST_NOISE * (float(positive.min()) if positive.size else 1.0), LEAST)


def checked_history(history: tuple[ArrayLike, ArrayLike, ArrayLike], depth: int) -> tuple[Floats, Floats, Ints]:
    """Means, counts and ids of the entries that count."""
    if len(history) != 3:
        raise ValueError(f"history has {len(history)} parts; it must be sums [M], counts [M], levels [M, L]")
    sums, counts = (np.asarray(part, dtype=np.float64) for part in history[:2])
    ids = np.asarray(history[2])
    if sums.ndim != 1 or counts.shape != sums.shape or ids.shape != (len(sums), depth):
        raise ValueError(
            f"history is {list(sums.shape)}, {list(counts.shape)}, {list(ids.shape)}; "
            f"it must be sums [M], counts [M], levels [M, L] with L = {depth}"
        )
    if not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"history's levels is {ids.dtype}; it must hold integer ids")
    if (bad := np.flatnonzero(~(np.isfinite(counts) & (counts >= 0)))).size:
        raise ValueError(f"history's counts must be finite and at least 0; entry {bad[0]} is {counts[bad[0]]}")
    if (bad := np.flatnonzero(~np.isfinite(sums))).size:
        raise ValueError(f"history's sums must be finite; entry {bad[0]} is {sums[bad[0]]}")
    some = counts > 0
    if some.all():
        return sums / counts, counts, ids.astype(np.int64, copy=False)
    return sums[some] / counts[some], counts[some], ids[some].astype(np.int64)
