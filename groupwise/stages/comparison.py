"""Group and estimate: with which rollouts each one is compared, and what it is worth beyond expectation.

All that both go by was learned in earlier updates; this update's rewards enter only afterwards, in `learn`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from groupwise.advantage import ESTIMATORS, estimate, hierarchical_advantages, scaled_as, similarity
from groupwise.advantage.held_out import held_out_errors
from groupwise.config import Recipe
from groupwise.grouping.features import Features
from groupwise.grouping.grouping import Grouping
from groupwise.grouping.lengths import Lengths
from groupwise.grouping.memory import Memory
from groupwise.grouping.prior import RunningPrior
from groupwise.grouping.tracker import Tracker
from groupwise.grouping.transfer_fit import TransferFit
from groupwise.rollout.embedding import PromptEmbeddings
from groupwise.types import Evidence, Floats, Groups, Ints, Prompt, Rollout, Stateful

MANY = 2**14 + 1  # known prompts; with n times as many, other groups' baselines are tried on every (n + 1)-th update
TRANSFER = {"none": "hierarchical", "kernel": "kernel", "threshold": "threshold"}  # the estimator of each kind


def estimator_of(recipe: Recipe) -> str:
    """The estimator that a recipe asks for; transfer is a form of the hierarchical one."""
    kind = recipe.advantage.kind
    return TRANSFER[recipe.advantage.transfer] if kind == "hierarchical" else kind


def needs_embeddings(recipe: Recipe) -> bool:
    """Whether anything looks at what prompts are about."""
    semantic = recipe.grouping.weights.semantic > 0 and recipe.grouping.kind in ("clusters", "first_match")
    return semantic or "features" in ESTIMATORS[estimator_of(recipe)].needs


class Comparison:
    """The groups of a run, what past updates taught about their rewards, and the estimator. Its state is checkpointed.

    `memory`: free bytes, which bound what is remembered; a resumed run goes by those of its first start.
    """

    def __init__(self, recipe: Recipe, embeddings: PromptEmbeddings | None, memory: int) -> None:
        self._kind, self._scale, self._steps = estimator_of(recipe), recipe.advantage.scale, recipe.steps
        self._needs = ESTIMATORS[self._kind].needs
        self._embeddings = embeddings
        self._grouping = Grouping(recipe.grouping, memory=memory, seed=recipe.seed)
        self._memory = Memory(len(self._grouping.names), max_prompts=recipe.advantage.history)
        self._lengths, self._tracker, self._prior = Lengths(), Tracker(), RunningPrior()
        self._transfer = TransferFit(similarity)
        self._seed, self._updates = recipe.seed, 0
        self._features: Features | None = None  # of the rollouts last grouped
        self._used = self._grouping.level, self._grouping.reason  # for them
        self._row: dict[str, float] = {}

    def embed(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """The same prompts with their embeddings, where anything looks at them."""
        if not self._embeddings:
            return list(prompts)
        vectors = self._embeddings([p.id for p in prompts], list(prompts))
        return [replace(prompt, embedding=vector) for prompt, vector in zip(prompts, vectors, strict=True)]

    def group(self, rollouts: Sequence[Rollout]) -> Groups:
        """Each rollout's path in the tree of groups; also noted on the rollout."""
        names = self._grouping.names
        self._used = self._grouping.level, self._grouping.reason
        if not rollouts:
            return Groups(levels=np.zeros((0, len(names)), dtype=np.int64), names=names)
        self._features = self._describe(rollouts)
        keys, labels = [r.prompt.id for r in rollouts], [(r.prompt.domain, r.prompt.task) for r in rollouts]
        groups = self._grouping.assign(keys, labels, self._features)
        within = np.unique(groups.prompt, return_inverse=True)[1]
        for rollout, path, number in zip(rollouts, groups.levels.tolist(), within.tolist(), strict=True):
            rollout.path, rollout.group = tuple(path), number
        return groups

    def estimate(self, rollouts: Sequence[Rollout], groups: Groups) -> None:
        """Fill in the advantages of the rollouts, which have their rewards; then learn from these."""
        self._row = {}
        if not rollouts:
            return
        rewards = np.array([r.reward for r in rollouts])
        keys = [r.prompt.id for r in rollouts]
        evidence = self._memory.evidence(keys, groups.levels)
        usable = replace(evidence, variances=self._grouping.restrict(evidence.variances))
        known = self._known(keys, groups, evidence, usable)
        unscaled = estimate(self._kind, rewards, groups.levels, "none", **known)
        values = scaled_as(self._kind, unscaled, rewards, groups.levels, self._scale, **known)
        for rollout, value in zip(rollouts, values.tolist(), strict=True):
            rollout.advantage = value
        rng = np.random.default_rng([self._seed, self._updates])
        errors = held_out_errors(
            rewards,
            groups.levels,
            usable,
            rng,
            {self._kind: unscaled} if "evidence" in self._needs and usable.ready else {},
            rivals=self._updates % (1 + len(self._memory.history) // MANY) == 0,
        )
        self._row = self._report(groups, usable, errors)
        self._learn(keys, groups, rewards, unscaled, evidence)
        self._lengths.add(keys, [len(r.completion.token_ids) for r in rollouts])

    def _known(self, keys: Sequence[str], groups: Groups, evidence: Evidence, usable: Evidence) -> dict[str, Any]:
        """What the estimator needs beside the batch; `usable` is the evidence without levels that are not in use."""
        known: dict[str, Any] = {"evidence": usable}
        if "features" in self._needs and self._features:
            known["features"] = self._features.embedding
        if "kernel_variance" in self._needs:
            variances, kernel = self._transfer.read(evidence.variances)
            known["kernel_variance"] = 0.0 if self._grouping.level == "prompt" else kernel
            if known["kernel_variance"] > 0:
                here = replace(usable, variances=self._grouping.restrict(variances))
                known["evidence"], rows = _of_batch(here, groups)
                known["features"] = known["features"][rows]
        if "prior" in self._needs:
            known["prior"] = self._prior.read()
        if "values" in self._needs:
            known["values"] = self._tracker.values(keys)
        return known

    def _learn(self, keys: Sequence[str], groups: Groups, rewards: Floats, unscaled: Floats, past: Evidence) -> None:
        self._updates += 1
        self._memory.add(keys, groups.levels, rewards, unscaled)
        variances = past.variances if past.ready else None
        self._memory.move(self._grouping.learn(groups, rewards, variances, hierarchical_advantages))
        if "values" in self._needs:
            self._tracker.add(keys, rewards)
        if "prior" in self._needs:
            self._prior.add(rewards, groups.prompt)
        if "kernel_variance" in self._needs and self._features:
            self._transfer.add(rewards, groups.levels, self._features.embedding)

    @property
    def follows_policy(self) -> bool:
        """Whether the estimator wants to be told how far each update moves the policy; see `moved`."""
        return "values" in self._needs

    def moved(self, divergence: float) -> None:
        """The policy was updated: mean |difference of log-probs| a token."""
        self._tracker.moved(divergence)

    def _describe(self, rollouts: Sequence[Rollout]) -> Features:
        """What is known of the rollouts' prompts before their rewards are."""
        prompts = {r.prompt.id: r.prompt for r in rollouts}
        place = {key: i for i, key in enumerate(prompts)}
        rows = [place[r.prompt.id] for r in rollouts]
        nothing = np.zeros(0, dtype=np.float32)  # where nobody looks at what prompts are about
        vectors = np.stack([nothing if p.embedding is None else p.embedding for p in prompts.values()])
        sums, counts = self._memory.history.past(list(prompts))
        seen = np.where(counts > 0, counts, np.nan)
        mean = (sums + 0.5) / (seen + 1)
        complexity = np.stack(
            [
                np.log([len(p.token_ids) + 1 for p in prompts.values()]),
                np.log(self._lengths.past(list(prompts)) + 1),
                [np.nan if p.complexity is None else p.complexity for p in prompts.values()],
            ],
            axis=1,
        )
        time = np.full(len(prompts), self._updates / max(1, self._steps))
        return Features(embedding=vectors[rows], reward=mean[rows, None], complexity=complexity[rows], time=time[rows])

    def _report(self, groups: Groups, evidence: Evidence, errors: Mapping[str, float]) -> dict[str, float]:
        """Numbers of the update that is being estimated, from before it learns."""
        alone = not np.isfinite(evidence.variances).all()  # each prompt by itself: its variance counts as infinite
        variances = np.where(alone, np.eye(len(evidence.variances))[-2], evidence.variances)
        total = float(variances.sum()) or 1.0
        names = (*groups.names, "within")
        siblings = np.bincount(np.unique(groups.prompt, return_inverse=True)[1]).astype(float)
        strength = 0.0 if alone else float(variances[-1]) / max(float(variances[:-1].sum()), 1e-9)  # k of one level
        return {
            **self._memory.report(groups.names),
            **{f"groups/share/{name}": float(v) / total for name, v in zip(names, variances, strict=True)},
            **{f"baseline/error/{name}": error for name, error in errors.items()},
            "groups/shrinkage": float(_shares(strength, siblings).mean()) if evidence.ready else 1.0,
            "advantage/scale": evidence.scale,
        }

    def report(self) -> dict[str, float]:
        """Metrics of the last update (docs/metrics.md)."""
        return self._row | self._grouping.report(self._used[0])

    def diagnostics(self) -> dict[str, float]:
        """How stable and how separate the clusters are; takes a moment, so it goes with evaluations."""
        return self._grouping.diagnostics()

    @property
    def fallback(self) -> tuple[str, str]:
        """Which levels the last update's advantages used, and why."""
        return self._used

    def state(self) -> dict[str, Any]:
        parts = self._parts()
        return {"updates": self._updates} | {name: part.state() for name, part in parts.items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._updates = state["updates"]
        for name, part in self._parts().items():
            part.load_state(state[name])

    def _parts(self) -> dict[str, Stateful]:
        parts: dict[str, Stateful] = {"grouping": self._grouping, "memory": self._memory, "lengths": self._lengths}
        parts |= {"tracker": self._tracker, "prior": self._prior, "transfer": self._transfer}
        return parts | ({"embeddings": self._embeddings} if self._embeddings else {})


def _shares(strength: float, siblings: Floats) -> Floats:
    """[P] what comes from beyond a prompt's other rollouts, which count one each against the `strength` of all else."""
    return np.asarray(np.where(siblings > 1, strength / np.maximum(strength + siblings - 1, 1e-9), 1.0))


def _of_batch(evidence: Evidence, groups: Groups) -> tuple[Evidence, Ints]:
    """The evidence with the history of the batch's own prompts alone, and for all [N + M] the row of their prompt.

    Of others no embedding is at hand.
    """
    rows = np.arange(len(groups.prompt))
    if evidence.history is None:
        return evidence, rows
    sums, counts, paths = evidence.history
    prompts, first = np.unique(groups.prompt, return_index=True)
    here = np.isin(paths[:, -1], prompts)
    rows = np.r_[rows, first[np.searchsorted(prompts, paths[here, -1])]]
    return replace(evidence, history=(sums[here], counts[here], paths[here])), rows
