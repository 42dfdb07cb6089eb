"""Vectors in families, for tests of clusters."""

from __future__ import annotations

from typing import Any

import numpy as np

from groupwise.grouping.features import Features, Vectors
from groupwise.types import Ints


def families(
    rng: np.random.Generator, count: int, size: int, width: int = 16, noise: float = 0.1
) -> tuple[Vectors, Ints]:
    """vectors [size, width] and the family [size] of each."""
    centres = rng.normal(size=(count, width))
    family = rng.integers(count, size=size)
    return (centres[family] + noise * rng.normal(size=(size, width))).astype(np.float32), family


def semantic(vectors: Vectors) -> Features:
    """Features of which only the embedding is known."""
    rows = len(vectors)
    unknown = np.full((rows, 1), np.nan)
    return Features(embedding=vectors, reward=unknown, complexity=unknown, time=np.zeros(rows))


def assert_same(a: Any, b: Any) -> None:
    """Equal trees of plain values and arrays, bit by bit."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b)
    else:
        assert a == b
