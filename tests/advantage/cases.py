"""Random batches of rollouts in groups of unequal sizes, and what an estimator may know beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from groupwise.types import Evidence, Floats, Ints

Batch = tuple[Floats, Ints]


@st.composite
def batches(draw: st.DrawFn, min_size: int = 1) -> Batch:
    """rewards [N], levels [N, 2] (domain, prompt): up to 12 rollouts of up to 5 prompts, ids not contiguous."""
    size = draw(st.integers(min_size, 12))
    rewards = draw(st.lists(st.sampled_from([0.0, 1.0, 0.1, -0.5, 0.3]), min_size=size, max_size=size))
    prompts = draw(st.lists(st.sampled_from([3, 7, 8, 20, -1]), min_size=size, max_size=size))
    return np.array(rewards), np.array([[prompt % 2, prompt] for prompt in prompts], dtype=np.int64)


def known(levels: Ints, shift: float = 0.0, factor: float = 1.0) -> dict[str, Any]:
    """What past batches could have taught of rewards that were multiplied by `factor`, then shifted by `shift`."""
    prompts = np.asarray(levels)[:, -1]
    variances = np.array([0.05] * np.asarray(levels).shape[1] + [0.2])
    return {
        "evidence": Evidence(variances=factor**2 * variances, ready=True, scale=0.4 * factor),
        "features": np.stack([np.cos(prompts), np.sin(prompts), np.cos(3 * prompts)], axis=1),
        "kernel_variance": factor**2 * 0.03,
        "prior": (factor * 0.4 + shift, factor**2 * 0.05, factor**2 * 0.2),
        "values": factor * (0.3 + 0.2 * np.cos(prompts)) + shift,
    }


def reordered(facts: dict[str, Any], order: Ints) -> dict[str, Any]:
    """The same for rollouts in another order."""
    return facts | {name: facts[name][order] for name in ("features", "values")}
