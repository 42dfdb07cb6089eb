"""Group mean: the reward minus the mean reward of its dynamic group, its own included.

    A_i = r_i - mean(r in the group)            divided by the group's standard deviation unless told otherwise

The founding articles' form. A dynamic group is the last level above the prompt. It
departs from the unbiased estimators in three ways: the mean contains r_i, so in a group of n the gradient is (n - 1)/n
of what it should be; dividing by the group's standard deviation re-weights groups, see scale.py; and easy and hard
prompts of a group are compared as if they were alike, which hierarchical.py does not do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from groupwise.advantage.grpo import grpo_advantages
from groupwise.advantage.inputs import checked
from groupwise.types import Floats, Ints


def group_mean_advantages(rewards: ArrayLike, levels: ArrayLike) -> Floats:
    """rewards [N], levels [N, L] -> unscaled advantages [N]; 0 in a group of one. L = 1: the group is the prompt.

    ValueError when N is 0, a reward is not finite, or the shapes differ.
    """
    values, ids = checked(rewards, levels)
    return grpo_advantages(values, dynamic_groups(ids))


def dynamic_groups(levels: ArrayLike) -> Ints:
    """levels [N, L] without the prompt's column, so that the dynamic group is the last; unchanged where L is 1."""
    ids = np.asarray(levels)
    return ids[:, :-1] if ids.ndim == 2 and ids.shape[1] > 1 else ids
