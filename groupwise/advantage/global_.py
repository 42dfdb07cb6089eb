"""Global: the reward minus the mean of all other rewards of the batch, whatever their prompt.

    A_i = r_i - 1/(N - 1) sum_{j != i} r_j = N/(N - 1) (r_i - mean r)

The baseline of REINFORCE++ (arXiv 2501.03262), made leave-one-out and so unbiased; the paper's division by the batch's
standard deviation is `scale="batch"`. One rollout a prompt is enough, but a prompt's difficulty stays in as noise.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from groupwise.advantage.inputs import checked, whole_batch
from groupwise.advantage.rloo import leave_one_out
from groupwise.types import Floats


def global_advantages(rewards: ArrayLike, levels: ArrayLike) -> Floats:
    """rewards [N], levels [N, L] (not used) -> advantages [N]; 0 where N is 1.

    ValueError when N is 0, a reward is not finite, or the shapes differ.
    """
    values, ids = checked(rewards, levels)
    return leave_one_out(whole_batch(ids), values)
