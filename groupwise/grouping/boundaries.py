"""Borders that follow the evidence: splits, merges and moves, taken only when they predict later rewards better.

A proposal says which prompts of one cluster would go to another. On the following updates the held-out squared error is
computed with and without it. After `SCREEN` updates the mean difference must be negative by more
than the standard errors that 2 become when `ACTIVE` candidates are looked at together (Bonferroni), and then by more
than 2 standard errors on `SCREEN` further updates, which the first look has not seen. Each look is taken once.

Clusters that are too wide leave no variance between clusters to be seen, and then no split could help. So a split or
a move is scored as if at least half of the variance between a cluster's prompts were between clusters; what it is
compared with, and a merge, has the variances as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from groupwise.grouping.features import Vectors
from groupwise.grouping.hierarchy import Hierarchy
from groupwise.grouping.running import RunningMean
from groupwise.types import Floats, Ints

Kind = Literal["split", "merge", "move"]
Residuals = Callable[[Ints, Floats], Floats]  # levels [N, L], variances [L + 1] -> leave-one-out residuals [N]

ACTIVE = 8  # proposals under test at a time
SCREEN = 8  # updates of evidence in each of the two looks
LIFETIME = 128  # updates after which a proposal without evidence is dropped, or may be made again
LEAST_MEMBERS = 4  # of each half of a split
MOST_MEMBERS = 4096  # of which the halves of a split are found
CONFIRMED = 2.0  # standard errors
CORRECTED = NormalDist().inv_cdf(1 - (1 - NormalDist().cdf(CONFIRMED)) / ACTIVE)
NEW = -1  # stands for the cluster that a split would make


@dataclass
class Proposal:
    """Prompts of `cluster` that are nearer to the second of `centroids` [2, F], or all for a merge, go to `other`."""

    kind: Kind
    domain: int
    cluster: int
    other: int
    centroids: Vectors
    born: int  # update
    screened: bool = False
    evidence: RunningMean = field(default_factory=RunningMean)  # of the change of the mean squared error

    @property
    def name(self) -> tuple[str, int, int]:
        return self.kind, self.cluster, self.other

    def moves(self, vectors: Vectors) -> NDArray[np.bool_]:
        """[M] which of the cluster's prompts with `vectors` [M, F] would go."""
        if self.kind == "merge":
            return np.ones(len(vectors), bool)
        return _nearer(vectors, self.centroids)


class Boundaries:
    """The proposals under test on a `Hierarchy`'s finest level; `accepted` counts those taken, by kind."""

    def __init__(self, tree: Hierarchy) -> None:
        self._tree = tree
        self._active: list[Proposal] = []
        self._tried: dict[tuple[str, int, int], int] = {}  # update from which it may be made again
        self.accepted: dict[str, int] = {"split": 0, "merge": 0, "move": 0}

    def judge(
        self, update: int, levels: Ints, columns: slice, vectors: Vectors, variances: Floats, residuals: Residuals
    ) -> None:
        """Score every proposal on an update that came after it; take or drop those whose evidence is complete.

        levels [N, L], of which `columns` are the clusters; vectors [N, F] of the rollouts' prompts; variances [L + 1]
        from before the update.
        """
        clusters, wider = levels[:, -2], _wider(variances)
        now = float((residuals(levels, variances) ** 2).mean()) if self._active else 0.0
        taken: list[Proposal] = []
        for proposal in list(self._active):
            here = clusters == proposal.cluster
            here[here] = proposal.moves(vectors[here])
            if here.any():
                changed = levels.copy()
                changed[here, columns] = self._path(proposal)
                then = residuals(changed, variances if proposal.kind == "merge" else wider)
                proposal.evidence.add(float((then**2).mean()) - now)
            verdict = _verdict(proposal)
            if verdict is None and update - proposal.born < LIFETIME:
                continue
            if verdict and not proposal.screened:
                proposal.screened, proposal.evidence = True, RunningMean()
                continue
            self._active.remove(proposal)
            self._tried[proposal.name] = update + LIFETIME
            if verdict:
                taken.append(proposal)
        for proposal in taken:
            self._take(proposal)

    def propose(self, update: int, clusters: Ints, domains: Ints) -> None:
        """Fill the places under test with candidates around the clusters [N] that most rollouts of this update have."""
        self._tried = {name: until for name, until in self._tried.items() if until > update}
        known, where, sizes = np.unique(clusters, return_index=True, return_counts=True)
        for i in np.argsort(-sizes, kind="stable"):
            around = self._around(int(known[i]), int(domains[where[i]]), update)
            for candidate in islice(around, ACTIVE - len(self._active)):
                self._tried[candidate.name] = update + LIFETIME
                self._active.append(candidate)

    def _around(self, cluster: int, domain: int, update: int) -> Iterator[Proposal]:
        """Proposals for a cluster that were not tried of late."""
        finest, other = self._tree.finest, self._tree.finest.neighbour(cluster)
        aims: dict[Kind, int] = {"split": NEW} if other is None else {"split": NEW, "merge": other, "move": other}
        new = {kind: to for kind, to in aims.items() if (kind, cluster, to) not in self._tried}
        if other is not None and ("merge", other, cluster) in self._tried:
            new.pop("merge", None)  # the same, seen from the other side
        if not new:  # looking at all members is what takes time
            return
        _, vectors = finest.members(cluster)
        for kind, to in new.items():
            means = (finest.mean(at).astype(np.float32) for at in (cluster, to) if at != NEW)
            pair = _halves(vectors) if to == NEW else np.stack([*means])
            if pair is None or (kind == "move" and not 0 < _nearer(vectors, pair).sum() < len(vectors)):
                self._tried[kind, cluster, to] = update + SCREEN  # it cannot be, for now
            else:
                yield Proposal(kind, domain, cluster, to, pair, update)

    def _path(self, proposal: Proposal) -> list[int]:
        if proposal.other == NEW:
            return [*self._tree.path(proposal.cluster)[:-1], NEW]
        return self._tree.path(proposal.other)

    def _take(self, proposal: Proposal) -> None:
        touched = {proposal.cluster, proposal.other} - {NEW}
        rows, vectors = self._tree.finest.members(proposal.cluster)
        going = rows[proposal.moves(vectors)]
        if not all(self._tree.finest.alive(cluster) for cluster in touched) or not len(going):
            return
        if proposal.kind == "split" and len(going) == len(rows):
            return
        if proposal.kind == "merge":
            self._tree.merge(proposal.other, proposal.cluster, proposal.domain)
        elif proposal.kind == "move":
            self._tree.move(going, proposal.other, proposal.cluster, proposal.domain)
        else:
            self._tree.split(proposal.cluster, going, proposal.domain)
        self.accepted[proposal.kind] += 1
        self._active = [p for p in self._active if not touched & {p.cluster, p.other}]

    def state(self) -> dict[str, Any]:
        return {
            "active": [
                vars(p) | {"centroids": p.centroids.copy(), "evidence": p.evidence.state()} for p in self._active
            ],
            "tried": list(self._tried.items()),
            "accepted": dict(self.accepted),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._active = []
        for saved in state["active"]:
            evidence = RunningMean()
            evidence.load_state(saved["evidence"])
            centroids = np.array(saved["centroids"], np.float32)
            self._active.append(Proposal(**{**saved, "centroids": centroids, "evidence": evidence}))
        self._tried = {(str(kind), a, b): until for (kind, a, b), until in state["tried"]}
        self.accepted = dict(state["accepted"])


def _verdict(proposal: Proposal) -> bool | None:
    """Whether the evidence of this look is for the proposal; None while it is not complete."""
    if proposal.evidence.count < SCREEN:
        return None
    return proposal.evidence.z < -(CONFIRMED if proposal.screened else CORRECTED)


def _wider(variances: Floats) -> Floats:
    """Variances [L + 1] with at least half of what is between a cluster's prompts between the finest clusters."""
    out = np.array(variances, np.float64)
    shift = max(0.0, (out[-2] - out[-3]) / 2)
    out[-3] += shift
    out[-2] -= shift
    return out


def _nearer(vectors: Vectors, centroids: Vectors | Sequence[Vectors]) -> NDArray[np.bool_]:
    """[M] whether the second centroid has the larger cosine."""
    pair = np.asarray(centroids)
    near = vectors @ (pair / np.maximum(np.linalg.norm(pair, axis=1, keepdims=True), 1e-12)).T
    return np.asarray(near[:, 1] > near[:, 0])


def _halves(vectors: Vectors, rounds: int = 10) -> Vectors | None:
    """Centroids [2, F] of two halves (spherical 2-means from two far members); None where one half is too small."""
    if len(vectors) < 2 * LEAST_MEMBERS:
        return None
    vectors = vectors[:: -(-len(vectors) // MOST_MEMBERS)]
    start = vectors[int((vectors @ vectors.mean(0)).argmin())]
    pair = np.stack([vectors[int((vectors @ start).argmin())], start])
    for _ in range(rounds):
        second = _nearer(vectors, pair)
        if min(second.sum(), (~second).sum()) < LEAST_MEMBERS:
            return None
        pair = np.stack([vectors[~second].mean(0), vectors[second].mean(0)])
    return pair
