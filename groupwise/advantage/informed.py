"""The estimators of the group tree, given what the past batches taught: `Evidence` in types.py.

Until enough is known (`ready`) the baseline is the leave-one-out mean of the batch.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from groupwise.advantage.global_ import global_advantages
from groupwise.advantage.hierarchical import hierarchical_advantages
from groupwise.advantage.transfer import kernel_advantages
from groupwise.types import Evidence, Floats


def from_tree(rewards: ArrayLike, levels: ArrayLike, evidence: Evidence) -> Floats:
    """rewards [N], levels [N, L] -> advantages [N], see hierarchical.py."""
    if not evidence.ready:
        return global_advantages(rewards, levels)
    return hierarchical_advantages(rewards, levels, evidence.variances, history=evidence.history)


def from_tree_and_kernel(
    rewards: ArrayLike, levels: ArrayLike, evidence: Evidence, kernel_variance: float, features: ArrayLike
) -> Floats:
    """The same with kernel_variance s_e and features [N + M, F], see transfer.py; s_e = 0 is `from_tree`."""
    if not evidence.ready or kernel_variance == 0:
        return from_tree(rewards, levels, evidence)
    return kernel_advantages(rewards, levels, evidence.variances, kernel_variance, features, history=evidence.history)
