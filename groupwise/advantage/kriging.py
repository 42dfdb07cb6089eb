"""The kernel between prompts, and the inverse of the prompts' covariance S = K_tree + s_e k + diag(noise).

Up to MOST_EXACT prompts the whole matrix is inverted. Beyond that k is Nystrom's approximation (Williams and Seeger
2001) with its diagonal kept exact, and the tree is inverted a level at a time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from groupwise.types import Floats, Ints

MOST_EXACT = 2000  # prompts
LANDMARKS = 256


def similarity(features: ArrayLike) -> Floats:
    """The kernel [P, P] of features [P, F]: exp(-2 d^2 / mean d^2) at distance d, so 1 on the diagonal."""
    places = _places(np.asarray(features, dtype=np.float64))
    return _kernel(places, places)


def inverse(
    path: Ints, between: Floats, noise: Floats, kernel_variance: float, features: Floats, right: Floats
) -> tuple[Floats, Floats]:
    """S^-1 right [P, R] and the diagonal [P] of S^-1.

    path [P, L] ids of the prompts, sorted so that every group of every level is contiguous; between [L] variances of
    the levels; noise [P], positive with between[-1]; kernel_variance s_e; features [P, F]; right [P, R].
    """
    if kernel_variance == 0:
        return _of_tree(path, between, noise, right)
    places = _places(features)
    if len(path) <= MOST_EXACT:
        matrix = np.diag(noise + between[-1]) + kernel_variance * _kernel(places, places)
        for ids, variance in zip(path[:, :-1].T, between[:-1], strict=True):
            matrix += variance * (ids[:, None] == ids)
        whole = np.linalg.inv(matrix)
        return whole @ right, np.diag(whole).copy()
    factor, rest = _landmarks(places)
    both, diagonal = _of_tree(path, between, noise + kernel_variance * rest, np.column_stack([right, factor]))
    solved, carried = both[:, : right.shape[1]], both[:, right.shape[1] :]
    # Woodbury's identity
    inner = np.linalg.inv(np.eye(factor.shape[1]) / kernel_variance + factor.T @ carried)
    return solved - carried @ (inner @ (factor.T @ solved)), diagonal - np.sum((carried @ inner) * carried, axis=1)


def _of_tree(path: Ints, between: Floats, noise: Floats, right: Floats) -> tuple[Floats, Floats]:
    """The same for s_e = 0 in O(P R): level by level from the finest, each by Sherman and Morrison's identity."""
    diagonal = 1 / (noise + between[-1])
    solved = diagonal[:, None] * np.column_stack([np.ones_like(noise), right])
    for ids, variance in zip(reversed(path[:, :-1].T), reversed(between[:-1]), strict=True):
        starts = np.flatnonzero(np.r_[True, np.diff(ids) != 0])
        group = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(ids)]))
        sums = np.add.reduceat(solved, starts, axis=0)
        factor = variance / (1 + variance * sums[:, :1])
        by_one = solved[:, 0].copy()
        diagonal = diagonal - factor[group, 0] * np.square(by_one)
        solved -= by_one[:, None] * (factor * sums)[group]
    return solved[:, 1:], diagonal


def _places(features: Floats) -> Floats:
    """features [P, F] in the kernel's unit, which depends on no reward: half the root of the mean squared distance."""
    centred = features - features.mean(0)
    distance = 2 * np.square(centred).sum() / len(features)
    return np.asarray(centred * (2 / np.sqrt(distance) if distance > 0 else 0.0))


def _kernel(rows: Floats, others: Floats) -> Floats:
    """exp(-|x - x'|^2 / 2) of places [P, F] and [M, F] -> [P, M]."""
    squares = np.square(rows).sum(1)[:, None] + np.square(others).sum(1) - 2 * rows @ others.T
    return np.asarray(np.exp(-np.maximum(squares, 0.0) / 2))


def _landmarks(places: Floats) -> tuple[Floats, Floats]:
    """U [P, LANDMARKS] with k close to U U', and what is left of its diagonal [P]: pivoted Cholesky.

    The next landmark is the prompt that the ones before explain least, so the choice is the same every time.
    """
    factor, rest = np.zeros((len(places), LANDMARKS)), np.ones(len(places))
    for column in range(LANDMARKS):
        pivot = int(np.argmax(rest))
        if rest[pivot] < 1e-10:
            return factor[:, :column], rest
        residual = _kernel(places, places[[pivot]])[:, 0] - factor[:, :column] @ factor[pivot, :column]
        factor[:, column] = residual / np.sqrt(rest[pivot])
        rest = np.maximum(rest - np.square(factor[:, column]), 0.0)
    return factor, rest
