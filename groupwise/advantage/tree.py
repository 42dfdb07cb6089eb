"""Messages in the group tree: what all leaves but those of a branch say about the node that the branch hangs on.

Gaussian belief propagation (Pearl 1988) on a tree of random effects, exact in O(rows). A message about a node's value
is the pair precision and precision x mean, so that messages add; precision 0 says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from groupwise.types import Floats, Ints

Message = tuple[Floats, Floats]  # precision [M], precision x mean [M]


def parents(levels: Ints) -> list[Ints]:
    """levels [N, L], ids coarse to fine -> L + 1 arrays: the parent's position of each column's nodes and of each row.

    The first column hangs on the root, position 0. ValueError when an id lies below two parents.
    """
    above, result = np.zeros(len(levels), dtype=np.int64), []
    for column, ids in enumerate(levels.T):
        member, index = _nodes(ids)
        parent = above[member]
        if (wrong := np.flatnonzero(parent[index] != above)).size:
            row = wrong[0]
            one, other = sorted(levels[[row, member[index[row]]], column - 1].tolist())
            raise ValueError(
                f"levels is not nested: id {ids[row]} of column {column} has two parents in column {column - 1}, "
                f"{one} and {other}; ids are unique in their column"
            )
        result.append(parent)
        above = index
    return [*result, above]


def _nodes(ids: Ints) -> tuple[Ints, Ints]:
    """ids [N] -> for each different id one row that has it, and for each row the position of its id."""
    low, span = int(ids.min()), int(ids.max()) - int(ids.min()) + 1
    if span > 4 * len(ids):
        return np.unique(ids, return_index=True, return_inverse=True)[1:]
    member = np.full(span, -1)  # a table is several times as fast as sorting
    member[ids - low] = np.arange(len(ids))
    used = member >= 0
    return member[used], (np.cumsum(used) - 1)[ids - low]


def folded(leaves: Message, levels: Ints, variance: float) -> tuple[Message, Ints]:
    """What leaves [M] with levels [M, L] say, through their prompts, about the groups that hold these: [G] for each.

    Also a path [G, L] for each message: that of one of the group's leaves. variance: the prompts' around their group.
    ValueError as in `parents`.
    """
    member, prompt = _nodes(levels[:, -1])
    about = _through((_sums(prompt, leaves[0]), _sums(prompt, leaves[1])), variance)
    group = _nodes(levels[member, -2])[1] if levels.shape[1] > 1 else np.zeros(len(member), dtype=np.int64)
    chosen = np.empty(int(group.max()) + 1, dtype=np.int64)
    chosen[group] = member
    if (levels[:, :-1] != levels[chosen[group[prompt]], :-1]).any():
        parents(levels)
    return (_sums(group, about[0]), _sums(group, about[1])), levels[chosen]


def from_others(
    leaves: Message,
    parent: Sequence[Ints],
    variances: Floats,
    root: tuple[float, float],
    many: Message | None = None,
) -> Message:
    """What everything but leaf i says about the value that leaf i was drawn around: the message [N] for each leaf.

    leaves [N]: what each says about its own prompt; parent: L + 1 arrays, see `parents`; variances [L]: each column's
    variance around its parent, inf allowed; root: the prior of the root's value; many [G]: see `folded`, the prompts
    of the last G leaves stand for many, which together say this.
    """
    up = [leaves]
    for below, variance in zip(reversed(parent[1:]), reversed(variances), strict=True):
        precision, information = up[-1]
        about = _through((_sums(below, precision), _sums(below, information)), variance)
        if many is not None and len(up) == 1:
            for said, together in zip(about, many, strict=True):
                said[below[-len(together) :]] = together
        up.append(about)
    down: Message = np.array([root[0]]), np.array([root[1]])
    for above, message, variance in zip(parent, reversed(up), [*variances, 0.0], strict=True):
        siblings = _siblings(message, above)
        outside = down[0][above] + siblings[0], down[1][above] + siblings[1]
        down = _through(outside, variance)
    return down


def _through(message: Message, variance: float) -> Message:
    """The message about a node as one about its neighbour, `variance` away: precision p becomes 1/(variance + 1/p)."""
    if np.isinf(variance):
        return np.zeros_like(message[0]), np.zeros_like(message[1])
    with np.errstate(over="ignore"):  # as good as inf
        factor = 1 / (1 + variance * message[0])
    return message[0] * factor, message[1] * factor


def _siblings(message: Message, parent: Ints) -> Message:
    """For each node [M] the sum of the messages of all others below its parent; exactly 0 for an only child.

    "Sum minus own" loses all digits where one child outweighs the rest; so for the heaviest child the rest are summed
    by themselves, and every other child is at most half of the sum.
    """
    precision, nodes = message[0], int(parent.max()) + 1
    heaviest = np.zeros(nodes)
    np.maximum.at(heaviest, parent, precision)
    candidates = np.flatnonzero(precision == heaviest[parent])
    heavy = np.empty(nodes, dtype=np.int64)
    heavy[parent[candidates]] = candidates  # one of those that tie

    def excluded(values: Floats) -> Floats:
        rest = values.copy()
        rest[heavy] = 0
        sums = _sums(parent, rest)
        result = (sums + values[heavy])[parent] - values
        result[heavy] = sums
        return result

    return excluded(precision), excluded(message[1])


def _sums(parent: Ints, values: Floats) -> Floats:
    return np.asarray(np.bincount(parent, weights=values), dtype=np.float64)
