"""Process supervision: each step's advantage is the sum of the normalised rewards from that step on.

    z_{i,s} = (q_{i,s} - mean q) / (std q + 1e-4)           mean and std over all steps of all rollouts of the prompt
    A_{i,t} = sum of z_{i,s} over the steps s of rollout i that end at or after token t

DeepSeekMath, arXiv 2402.03300, section 4.1.3. As in scale.py, std has ddof = 1 and the 1e-4; the paper has neither.
The mean contains the rollout's own steps; and a rollout of more steps sums more terms, whatever they are worth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from groupwise.advantage.inputs import checked, prompts
from groupwise.advantage.scale import EPSILON
from groupwise.types import Floats


def process_advantages(step_rewards: Sequence[ArrayLike], levels: ArrayLike) -> list[Floats]:
    """step_rewards: N arrays [S_i], one reward a step; levels [N, L] with the prompt id last -> N arrays [S_i].

    Entry s is the advantage of the tokens of step s. A rollout may have no steps; steps that are all alike give 0.
    ValueError when all rollouts are without steps, a reward is not finite, or the lengths differ.
    """
    steps = [np.asarray(rewards, dtype=np.float64).reshape(-1) for rewards in step_rewards]
    sizes, ids = [step.size for step in steps], np.asarray(levels)
    if ids.ndim != 2 or len(ids) != len(steps):
        raise ValueError(f"levels is {list(ids.shape)}; it must be [N, L] with N = {len(steps)}, as step_rewards is")
    flat, of_step = checked(np.concatenate([*steps, np.zeros(0)]), np.repeat(ids, sizes, axis=0))
    groups = prompts(of_step)
    normal = groups.centred(flat) / (groups.std(flat) + EPSILON)[groups.index]
    return [np.cumsum(part[::-1])[::-1] for part in np.split(normal, np.cumsum(sizes)[:-1])]
