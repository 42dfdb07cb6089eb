"""Cross-group transfer: the hierarchical baseline plus an effect that prompts share by how similar they are.

    S = K_tree + s_e k + diag(s_w / n)          over prompts; Q = S^-1 - S^-1 1 (1' S^-1 1)^-1 1' S^-1
    a_j = m_j - [Q m]_j / Q_jj                  prompt j's mean as all other prompts predict it,
    V_j = 1 / Q_jj - s_w / n_j                  and the error of that as a prediction of its pass rate
    b_i = (k_j a_j + S_j - r_i) / (k_j + n_j - 1),  k_j = s_w / V_j         A_i = r_i - b_i

So what is learned of one group informs the groups that are like it, wherever they stand in the tree. Kriging with an
unknown mean (Cressie 1993, section 3.4), left out one by one: b_i never contains r_i, and the gradient is unbiased
whatever the variances are. s_e = 0 is `hierarchical`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from groupwise.advantage.hierarchical import checked_history, checked_variances
from groupwise.advantage.inputs import checked, unrounded
from groupwise.advantage.kriging import inverse
from groupwise.advantage.tree import parents
from groupwise.types import Floats


def kernel_advantages(
    rewards: ArrayLike,
    levels: ArrayLike,
    variances: ArrayLike,
    kernel_variance: float,
    features: ArrayLike,
    *,
    history: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
) -> Floats:
    """rewards [N], levels [N, L], variances [L + 1] and history [M] as in hierarchical_advantages -> advantages [N].

    kernel_variance: s_e, fitted on past batches. features [N + M, F]: the embedding of each rollout's prompt, then of
    each history entry's; rows of one prompt are equal. 0 where nothing else says anything about the reward.
    O(P^3) for P <= 2,000 prompts, approximate and O(P) beyond. ValueError as there, and for an infinite variance.
    """
    values, ids = checked(rewards, levels)
    between, noise = checked_variances(variances, ids.shape[1])
    if not (np.isfinite(between).all() and 0 <= kernel_variance < np.inf):
        raise ValueError(f"variances {between} and kernel_variance {kernel_variance} must be finite and at least 0")
    nothing = np.zeros(0), np.zeros(0), np.zeros((0, ids.shape[1]), dtype=np.int64)
    past = nothing if history is None else history
    rows = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2 or len(rows) != len(values) + len(np.asarray(past[1])) or not np.isfinite(rows).all():
        raise ValueError(
            f"features is {list(rows.shape)}; it must be finite and [N + M, F] with N = {len(values)} rollouts "
            f"and M = {len(np.asarray(past[1]))} entries of history"
        )
    past_means, past_counts, past_ids = checked_history(past, ids.shape[1])
    used = np.r_[np.ones(len(values), dtype=bool), np.asarray(past[1], dtype=np.float64) > 0]
    centre = float(np.median(values))  # as there; equal rewards have advantage exactly 0
    values = values - centre
    counts, ids = np.r_[np.ones(len(values)), past_counts], np.concatenate([ids, past_ids])

    parents(ids)  # complains where ids are not nested
    order = np.lexsort(ids.T[::-1])  # every group of every level is then contiguous
    new = np.r_[True, np.diff(ids[order, -1]) != 0]
    prompt = np.empty_like(order)
    prompt[order] = np.cumsum(new) - 1
    first, mine = order[new], prompt[: len(values)]
    n = np.bincount(prompt, weights=counts)
    sums = np.bincount(prompt, weights=counts * np.r_[values, past_means - centre])

    prediction, weight = np.zeros_like(n), np.zeros_like(n)  # one prompt alone: only its own other rollouts speak
    if len(n) > 1:
        right = np.column_stack([sums / n, np.ones_like(n)])
        solved, diagonal = inverse(ids[first], between, noise / n, kernel_variance, rows[used][first], right)
        by_mean, by_one = solved.T
        q = diagonal - np.square(by_one) / by_one.sum()
        prediction = sums / n - (by_mean - by_one * (by_mean.sum() / by_one.sum())) / q
        weight = noise / np.maximum(1 / q - noise / n, np.finfo(np.float64).tiny)
    known = (weight + n - 1)[mine]
    others = (weight * prediction + sums)[mine] - values
    baseline = np.divide(others, known, out=values.copy(), where=known > 0)
    return unrounded(values - baseline, values + centre, past_means)
