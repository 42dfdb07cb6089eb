"""EBPO: the prompt's mean shrunk towards a global mean that is tracked over past batches.

    A_i = r_i - (1 - S_j) mean(r in j) - S_j mu             i in prompt j of n_j rollouts
    S_j = (sigma^2 / n_j) / (sigma^2 / n_j + tau^2)         mu, tau^2, sigma^2: grouping/prior.py

EBPO, arXiv 2602.05165: an empirical Bayes estimator between the group's mean and a global prior, which Welford's
algorithm updates online; a group whose rewards are all alike still has advantages. Only the abstract and summaries
could be read. Theirs: the mean shrinks by a factor S_j that weighs within- against between-prompt variance. The
textbook's: the formula of S_j. Ours, for want of the paper: what mu, sigma^2 and tau^2 average over, and that A is not
scaled.
The group's mean contains r_i, as in GRPO, so the gradient is 1 - (1 - S_j) / n_j of the unbiased one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from groupwise.advantage.inputs import checked, prompts
from groupwise.types import Floats

Prior = tuple[float, float, float]  # mu, tau^2 (between prompts), sigma^2 (within a prompt)


def ebpo_advantages(rewards: ArrayLike, levels: ArrayLike, prior: Prior | None) -> Floats:
    """rewards [N], levels [N, L] with the prompt id last, prior of past batches -> advantages [N].

    prior None (no past batch): the group's mean alone, so 0 where a prompt has one rollout.
    ValueError when N is 0, a reward is not finite, the shapes differ, or a variance of the prior is negative.
    """
    values, ids = checked(rewards, levels)
    groups = prompts(ids)
    centred = groups.centred(values)
    if prior is None:
        return centred
    mean, between, within = prior
    if not (np.isfinite(mean) and 0 <= between < np.inf and 0 <= within < np.inf):
        raise ValueError(f"prior is {prior}; it must be a finite mean and two variances that are finite and >= 0")
    noise = within / groups.size
    shrink = np.divide(noise, noise + between, out=np.zeros_like(noise), where=noise + between > 0)[groups.index]
    return centred + shrink * (values - centred - mean)
