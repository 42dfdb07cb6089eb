"""How much similar prompts have in common beyond the tree: the kernel's variance s_e, fitted with the tree's.

    E[m' M K_a M m] = sum_b s_b tr(M K_a M K_b) + s_w tr(M K_a M diag(1/n))         a, b over the levels and the kernel

m [P] are the means of a batch's prompts of n rollouts, M = I - 11'/P takes the mean off, K_a says which prompts share
a's group (1) or how similar they are. The method of moments with these forms is Haseman and Elston's regression, or
MINQUE with equal weights (Rao 1971). As in variance.py both sides are averaged over batches and solved on read; the
within-variance s_w is the one given. s_e counts only while it is SURE standard errors above 0 (between batches, by the
sandwich formula): transfer that is not seen to exist is off, and the tree's variances are then those given.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from groupwise.types import Floats

SURE = 3.0
FEWEST = 8  # batches before transfer can be on
MOST_PROMPTS = 512  # of a batch that are looked at: the work is quadratic


class TransferFit:
    """`similarity`: features [P, F] -> kernel [P, P], the one that the advantages use."""

    def __init__(self, similarity: Callable[[Floats], Floats], decay: float = 0.98, window: int = 128) -> None:
        self._similarity, self._decay = similarity, decay
        self._batches: deque[Floats] = deque(maxlen=window)  # [L + 1, L + 3]: forms, coefficients of s_b, of s_w

    def add(self, rewards: ArrayLike, levels: ArrayLike, features: ArrayLike) -> None:
        """rewards [N], levels [N, L], features [N, F] of each rollout's prompt. A batch of one prompt says nothing."""
        values, ids = np.asarray(rewards, dtype=np.float64), np.asarray(levels)
        _, first, index, size = np.unique(ids[:, -1], return_index=True, return_inverse=True, return_counts=True)
        if len(size) < 2:
            return
        kept = np.unique(np.linspace(0, len(size) - 1, min(len(size), MOST_PROMPTS)).astype(np.int64))
        means = (np.bincount(index, weights=values - values[0]) / size)[kept]
        path, share = ids[first[kept]], 1 / size[kept]
        alike = [(column[:, None] == column).astype(np.float64) for column in path.T]
        alike.append(self._similarity(np.asarray(features, dtype=np.float64)[first[kept]]))
        centred = [_centred(matrix) for matrix in alike]
        means = means - means.mean()
        self._batches.append(
            np.array(
                [[means @ a @ means, *(np.sum(a * b) for b in centred), np.sum(np.diag(a) * share)] for a in centred]
            )
            / len(kept)
        )

    def read(self, variances: ArrayLike) -> tuple[Floats, float]:
        """variances [L + 1] of the tree, the within-variance last -> those to use with the kernel, and s_e [unit^2].

        s_e = 0, and the variances as given, while transfer is off.
        """
        given = np.asarray(variances, dtype=np.float64)
        if len(self._batches) < FEWEST or not np.isfinite(given).all():
            return given, 0.0
        table = np.array(self._batches)
        weight = self._decay ** np.arange(len(table) - 1, -1, -1.0)
        left, right = table[:, :, 1:-1], table[:, :, 0] - given[-1] * table[:, :, -1]
        matrix, forms = np.einsum("t,tab->ab", weight, left), weight @ right
        inverse = np.linalg.pinv(matrix, rcond=1e-10)
        solution = inverse @ forms
        residual = weight[:, None] * (right - left @ solution)
        error = np.sqrt(np.square(residual @ inverse[-1]).sum())
        if solution[-1] <= SURE * error:
            return given, 0.0
        fitted = _nonnegative(matrix, forms)
        return np.r_[fitted[:-1], given[-1]], float(fitted[-1])

    def state(self) -> dict[str, Any]:
        return {"batches": [batch.copy() for batch in self._batches]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._batches.clear()
        self._batches.extend(np.asarray(batch, dtype=np.float64) for batch in state["batches"])


def _centred(matrix: Floats) -> Floats:
    """M K M [P, P]."""
    rows = matrix - matrix.mean(0)
    return np.asarray(rows - rows.mean(1, keepdims=True))


def _nonnegative(matrix: Floats, forms: Floats) -> Floats:
    """The solution of matrix s = forms with the negative variances at 0, one after the other, the least first."""
    kept = np.arange(len(forms))
    while kept.size:
        solution = np.linalg.pinv(matrix[np.ix_(kept, kept)], rcond=1e-10) @ forms[kept]
        if (solution >= 0).all():
            break
        kept = np.delete(kept, np.argmin(solution))
    else:
        solution = np.zeros(0)
    result = np.zeros(len(forms))
    result[kept] = solution
    return result
