"""Divide advantages by a standard deviation.

    none    A
    group   A / (std of the prompt's rewards + 1e-4)
    batch   A / (std of all rewards + 1e-4)
    running A / (root mean square of A over past batches): the same number whatever this batch's rewards are

ddof = 1, and the 1e-4, as in TRL's `scale_rewards`; DeepSeekMath's equation has neither. `group` re-weights prompts of
pass rate p by 1/sqrt(p (1 - p)) (arXiv 2503.20783 calls it the difficulty bias); it is not a matter of the baseline.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from groupwise.advantage.inputs import checked, prompts, whole_batch
from groupwise.types import Floats

Scale = Literal["none", "group", "batch", "running"]
EPSILON = 1e-4  # in units of the reward


def scaled(advantages: ArrayLike, rewards: ArrayLike, levels: ArrayLike, scale: str, running: float = 1.0) -> Floats:
    """advantages [N], rewards [N], levels [N, L] with the prompt id last, running scale of A -> advantages [N].

    `group` is meant for advantages that are 0 where the group has no spread; others would be multiplied by 1e4.
    ValueError when `scale` is unknown, shapes differ, N is 0, or a reward is not finite.
    """
    values, ids = checked(rewards, levels)
    result = np.asarray(advantages, dtype=np.float64)
    if result.shape != values.shape:
        raise ValueError(f"advantages is {list(result.shape)}; it must be [N] = {list(values.shape)}, as rewards is")
    if scale == "none":
        return result
    if scale not in get_args(Scale):
        raise ValueError(f"unknown scale {scale!r}; allowed: {', '.join(get_args(Scale))}")
    if scale == "running":
        return result / running
    groups = prompts(ids) if scale == "group" else whole_batch(ids)
    return result / (groups.std(values) + EPSILON)[groups.index]
