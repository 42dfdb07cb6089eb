"""GRPO: the reward minus the mean of its prompt's rewards, its own included.

    A_i = r_i - 1/G sum_{j in the prompt} r_j           divided by the group's standard deviation, see scale.py

DeepSeekMath, arXiv 2402.03300, section 4.1.2. The mean contains r_i, so this is (G - 1)/G of the unbiased RLOO.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from groupwise.advantage.inputs import checked, prompts
from groupwise.types import Floats


def grpo_advantages(rewards: ArrayLike, levels: ArrayLike) -> Floats:
    """rewards [N], levels [N, L] with the prompt id last -> unscaled advantages [N]; 0 where a prompt has one rollout.

    ValueError when N is 0, a reward is not finite, or the shapes differ.
    """
    values, ids = checked(rewards, levels)
    return prompts(ids).centred(values)
