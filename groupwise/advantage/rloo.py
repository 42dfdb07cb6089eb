"""RLOO: the reward minus the mean of the other rewards of its prompt.

    A_i = r_i - 1/(G - 1) sum_{j != i, in the prompt} r_j = G/(G - 1) (r_i - mean r)

Kool et al. 2019; for language models arXiv 2402.14740. The baseline does not contain r_i: the gradient is unbiased.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from groupwise.advantage.inputs import Groups, checked, prompts
from groupwise.types import Floats


def rloo_advantages(rewards: ArrayLike, levels: ArrayLike) -> Floats:
    """rewards [N], levels [N, L] with the prompt id last -> advantages [N]; 0 where a prompt has one rollout.

    ValueError when N is 0, a reward is not finite, or the shapes differ.
    """
    values, ids = checked(rewards, levels)
    return leave_one_out(prompts(ids), values)


def leave_one_out(groups: Groups, values: Floats) -> Floats:
    """[N] each value minus the mean of the others in its group; 0 in a group of one."""
    factor = groups.size / np.maximum(groups.size - 1, 1)
    return groups.centred(values) * factor[groups.index]
