"""JSPO: the James-Stein baseline, the prompt's leave-one-out mean shrunk towards the mean of the other prompts.

    A_i = r_i - (1 - lambda_j) mean(r_k: k in j, k != i) - lambda_j m_{-j}          i in prompt j
    m_{-j} = mean over the other prompts of their means
    lambda_j = v_j / (v_j + s_j)                            0 where v_j = s_j = 0
    v_j = mean over the other prompts p of var(r in p) / n_p        how far a prompt's mean is from its pass rate
    s_j = mean over the other prompts p of (m_p - m_{-j})^2         how far prompts are from each other

"Shrinking the Variance", arXiv 2511.03710: leave-one-out twice, so the baseline never contains r_i and the gradient
stays unbiased. The abstract was read, and the formulas are those of the authors' public implementation.
Departures: groups may differ in size (theirs do not; v_j then averages over prompts of two or more rollouts); a prompt
of one rollout has lambda 1 and a batch of one prompt lambda 0 (theirs refuses the one and reuses its own rewards in the
other); the constant 1e-6 in the denominator is gone, so that the unit of the reward does not matter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from groupwise.advantage.inputs import checked, prompts
from groupwise.advantage.rloo import leave_one_out
from groupwise.types import Floats


def jspo_advantages(rewards: ArrayLike, levels: ArrayLike) -> Floats:
    """rewards [N], levels [N, L] with the prompt id last -> advantages [N]; 0 where N is 1.

    ValueError when N is 0, a reward is not finite, or the shapes differ.
    """
    values, ids = checked(rewards, levels)
    groups = prompts(ids)
    if groups.size.size == 1:
        return leave_one_out(groups, values)
    values = values - values[0]  # equal rewards are then exactly 0, and so are their advantages
    mean, others = groups.sum(values) / groups.size, groups.size.size - 1
    known = groups.size > 1
    noise = np.where(known, np.square(groups.std(values)) / groups.size, 0.0)
    v = _without(noise) / np.maximum(_without(known.astype(np.float64)), 1)
    elsewhere = _without(mean) / others
    apart = mean - mean.mean()
    s = np.maximum((np.square(apart).sum() - np.square(apart)) / others - np.square(apart / others), 0.0)
    shrink = np.where(known, np.divide(v, v + s, out=np.zeros_like(v), where=v + s > 0), 1.0)[groups.index]
    return np.asarray((1 - shrink) * leave_one_out(groups, values) + shrink * (values - elsewhere[groups.index]))


def _without(values: Floats) -> Floats:
    """[M] sum of all but each one, without subtraction: what is 0 stays exactly 0."""
    before, after = np.cumsum(values), np.cumsum(values[::-1])[::-1]
    return np.asarray(np.r_[0.0, before[:-1]] + np.r_[after[1:], 0.0])
