"""Random batches of rollouts in groups of unequal sizes."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from groupwise.types import Floats, Ints

Batch = tuple[Floats, Ints]


@st.composite
def batches(draw: st.DrawFn, min_size: int = 1) -> Batch:
    """rewards [N], levels [N, 2] (domain, prompt): up to 12 rollouts of up to 5 prompts, ids not contiguous."""
    size = draw(st.integers(min_size, 12))
    rewards = draw(st.lists(st.sampled_from([0.0, 1.0, 0.1, -0.5, 0.3]), min_size=size, max_size=size))
    prompts = draw(st.lists(st.sampled_from([3, 7, 8, 20, -1]), min_size=size, max_size=size))
    return np.array(rewards), np.array([[prompt % 2, prompt] for prompt in prompts], dtype=np.int64)
