"""SPO: the reward minus the prompt's tracked value, normalised over the batch.

    D_i = r_i - v_j             v_j: value of prompt j before this batch, see grouping/tracker.py
    A_i = (D_i - mean D) / (std D + 1e-8)

Single-stream Policy Optimization, arXiv 2509.13232; one rollout a prompt is enough. The abstract was read, and the
formulas were checked against the public implementation in verl's recipes. std has ddof = 1, as there.
v_j is of past batches only, but mean D and std D contain r_i: a bias of the order 1/N. The paper's prioritised sampling
of prompts is a curriculum, not an advantage, and not done here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from groupwise.advantage.inputs import checked, whole_batch
from groupwise.types import Floats

EPSILON = 1e-8


def spo_advantages(rewards: ArrayLike, levels: ArrayLike, values: ArrayLike) -> Floats:
    """rewards [N], levels [N, L] (not used), values [N] of the rollouts' prompts -> advantages [N], of std 1.

    0 where N is 1. ValueError when N is 0, a reward or a value is not finite, or the shapes differ.
    """
    scores, ids = checked(rewards, levels)
    known = np.asarray(values, dtype=np.float64)
    if known.shape != scores.shape or not np.isfinite(known).all():
        raise ValueError(f"values is {list(known.shape)}; it must be finite and [N] = {list(scores.shape)}")
    everyone = whole_batch(ids)
    return np.asarray(everyone.centred(scores - known) / (everyone.std(scores - known)[0] + EPSILON))
