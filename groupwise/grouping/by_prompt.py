"""The plain groups of GRPO: a group is the completions of one prompt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from groupwise.types import Groups


def by_prompt(keys: Sequence[str]) -> Groups:
    """Groups of rollouts [N] by their prompts' ids, numbered in the order they first appear."""
    number: dict[str, int] = {}
    ids = [number.setdefault(key, len(number)) for key in keys]
    return Groups(levels=np.array(ids, dtype=np.int64).reshape(-1, 1), names=("prompt",))
