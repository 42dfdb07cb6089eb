"""Threshold: cross-group transfer as the founding articles give it.

    b_i = (b_g + sum_h w_gh b_h) / (1 + sum_h w_gh)             A_i = r_i - b_i; i in group g

Groups h that are more similar than .6 to g lend their means b_h with weight w_gh = .3 x similarity. Departure: b_g is
the mean of the *other* rollouts of i's group, where theirs contains r_i; so b_i never does, and the gradient is
unbiased. Sizes do not count: two rollouts weigh as much as two hundred. The form that weighs what each group knows is
transfer.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from groupwise.advantage.group_mean import dynamic_groups
from groupwise.advantage.inputs import Groups, checked
from groupwise.advantage.rloo import leave_one_out
from groupwise.types import Floats

LEAST_SIMILARITY, WEIGHT = 0.6, 0.3


def threshold_advantages(rewards: ArrayLike, levels: ArrayLike, features: ArrayLike) -> Floats:
    """rewards [N], levels [N, L], features [N, F] of each rollout's prompt -> advantages [N].

    A group is the last level above the prompt (the prompt itself where L is 1), its place the mean of its rows, and
    similarity the cosine. 0 where neither another rollout of the group nor a similar group is there. O(groups^2).
    ValueError when N is 0, a reward or a feature is not finite, or the shapes differ.
    """
    values, ids = checked(rewards, levels)
    given = np.asarray(features, dtype=np.float64)
    if given.ndim != 2 or len(given) != len(values) or not np.isfinite(given).all():
        raise ValueError(f"features is {list(given.shape)}; it must be finite and [N, F] with N = {len(values)}")
    groups = Groups(dynamic_groups(ids)[:, -1])
    values = values - values[0]
    place = np.zeros((groups.size.size, given.shape[1]))
    np.add.at(place, groups.index, given)
    place /= np.maximum(np.linalg.norm(place, axis=1, keepdims=True), np.finfo(float).tiny)
    cosine = place @ place.T
    weight = np.where(cosine > LEAST_SIMILARITY, WEIGHT * cosine, 0.0)
    np.fill_diagonal(weight, 0.0)
    taught, mass = (weight @ (groups.sum(values) / groups.size))[groups.index], weight.sum(1)[groups.index]
    has_peers = (groups.size > 1)[groups.index].astype(np.float64)
    own = has_peers * (values - leave_one_out(groups, values))
    baseline = np.divide(own + taught, has_peers + mass, out=values.copy(), where=has_peers + mass > 0)
    return np.asarray(values - baseline)
