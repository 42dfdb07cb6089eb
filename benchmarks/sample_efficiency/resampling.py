"""Estimators on resampled batches of one fixed pool of rollouts: spread and bias of their gradients, no model needed.

The pool is the population: P prompts with C rollouts each, their rewards [P, C] and projected gradients [P, C, D] of
log pi(o|x). A batch draws prompts family by family, as training does, and G different rollouts of each; a prompt that
comes twice counts as two. Its update is sum_i A_i g_i / N.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from groupwise.advantage import global_advantages, grpo_advantages, jspo_advantages, rloo_advantages
from groupwise.advantage.hierarchical import hierarchical_advantages
from groupwise.grouping.variance import VarianceComponents
from groupwise.types import Floats, Ints

REPEAT = 0.15  # share of the prompts drawn twice by hierarchical at G = 1, as `rollout.repeat`
PAST = 8  # earlier batches that variances and history come from


@dataclass(frozen=True, kw_only=True)
class Pool:
    rewards: Floats  # [P, C]
    gradients: np.ndarray  # [P, C, D] float32
    families: Ints  # [P] task
    groups: Ints  # [P, L - 1] ids of domain and clusters, coarse to fine


@dataclass(frozen=True)
class Batch:
    """N rollouts: their prompt in the pool, their place among its C, and which draw of a prompt they belong to."""

    prompt: Ints
    place: Ints
    draw: Ints


@dataclass(frozen=True)
class Known:
    """What earlier batches teach: variances [L + 1] and (sums [M], counts [M], levels [M, L])."""

    variances: Floats
    history: tuple[Floats, Floats, Ints]


def sizes(rollouts: int, group: int, repeat: float = 0.0) -> Ints:
    """[M] rollouts of each drawn prompt, `rollouts` in all; with G = 1 a share `repeat` of the prompts comes twice."""
    twice = round(rollouts * repeat / (1 + repeat)) if group == 1 else 0
    return np.full(rollouts // group - twice, group) + (np.arange(rollouts // group - twice) < twice)


def shuffled(pool: Pool, rng: np.random.Generator) -> Ints:
    """[P, C] the places of each prompt's rollouts in random order; its halves make disjoint batches."""
    return np.argsort(rng.random(pool.rewards.shape), axis=1)


def draw(pool: Pool, group_sizes: Ints, order: Ints, rng: np.random.Generator) -> Batch:
    """A batch from the rollouts that `order` [P, C'] offers. ValueError where a prompt has too few of them."""
    names = np.unique(pool.families)
    family = names[rng.permutation(np.arange(len(group_sizes)) + rng.integers(len(names))) % len(names)]
    members = [np.flatnonzero(pool.families == name) for name in names]
    chosen = zip(np.searchsorted(names, family).tolist(), rng.random(len(family)).tolist(), strict=True)
    drawn = np.array([members[place][int(share * len(members[place]))] for place, share in chosen])
    used = np.zeros(len(pool.families), dtype=np.int64)
    places = []
    for prompt, size in zip(drawn.tolist(), group_sizes.tolist(), strict=True):
        if used[prompt] + size > order.shape[1]:
            raise ValueError(f"prompt {prompt} has only {order.shape[1]} rollouts to offer; take more a prompt")
        places.append(order[prompt, used[prompt] : used[prompt] + size])
        used[prompt] += size
    number = np.repeat(np.arange(len(group_sizes)), group_sizes)
    return Batch(drawn[number], np.concatenate(places), number)


def levels_of(groups: Ints, batch: Batch, first: int = 0) -> Ints:
    """[N, L] the groups [P, L - 1] of each rollout's prompt, and its draw, numbered from `first`."""
    return np.concatenate([groups[batch.prompt], first + batch.draw[:, None]], axis=1)


def learn(pool: Pool, groups: Ints, group_sizes: Ints, order: Ints, rng: np.random.Generator) -> Known:
    """Variances and history of prompts in groups [P, L - 1] as PAST earlier batches leave them, none forgotten."""
    components = VarianceComponents(groups.shape[1] + 1, decay=1.0)
    sums, counts, paths, first = [], [], [], int(group_sizes.sum())
    for _ in range(PAST):
        places = np.take_along_axis(order, np.argsort(rng.random(order.shape), axis=1), axis=1)
        batch = draw(pool, group_sizes, places, rng)
        rewards, levels = pool.rewards[batch.prompt, batch.place], levels_of(groups, batch, first)
        components.add(rewards, levels)
        sums.append(np.bincount(batch.draw, weights=rewards))
        counts.append(group_sizes.astype(np.float64))
        paths.append(levels[np.unique(batch.draw, return_index=True)[1]])
        first += len(group_sizes)
    return Known(components.estimates(), (np.concatenate(sums), np.concatenate(counts), np.concatenate(paths)))


def hierarchical(pool: Pool, groups: Ints, batch: Batch, known: Known) -> Floats:
    rewards = pool.rewards[batch.prompt, batch.place]
    return hierarchical_advantages(rewards, levels_of(groups, batch), known.variances, history=known.history)


def oracle(pool: Pool, batch: Batch) -> Floats:
    """The reward minus the prompt's pass rate, from all its other rollouts of the pool."""
    rewards = pool.rewards[batch.prompt, batch.place]
    return rewards - (pool.rewards.sum(1)[batch.prompt] - rewards) / (pool.rewards.shape[1] - 1)


PLAIN: dict[str, Callable[[Floats, Ints], Floats]] = {
    "grpo": grpo_advantages,
    "rloo": rloo_advantages,
    "global": global_advantages,
    "jspo": jspo_advantages,
}
NEED_SIBLINGS = ("grpo", "rloo")
TREES: dict[str, Callable[[Pool], Ints]] = {  # groups [P, L - 1] above the prompt, coarse to fine
    "hierarchical prompt": lambda pool: pool.groups[:, :0],
    "hierarchical domain": lambda pool: pool.groups[:, :1],
    "hierarchical task": lambda pool: np.stack([pool.groups[:, 0], pool.families], axis=1),
    "hierarchical clusters": lambda pool: pool.groups,
}


@dataclass
class Trials:
    """R updates of one estimator, and what each prompt of the pool contributed to their mean."""

    updates: np.ndarray  # [R, D]
    by_prompt: np.ndarray  # [P, D] mean of the sums of A_i g_i / N over the prompt's rollouts, times P
    squares: float  # mean of A_i^2


def resample(pool: Pool, rollouts: int, group: int, times: int, seed: int) -> dict[str, Trials]:
    """Every estimator that can work at this group size, on the same batches.

    The hierarchical ones at G = 1 have batches of their own, in which some prompts come twice.
    """
    names = [name for name in PLAIN if group > 1 or name not in NEED_SIBLINGS]
    found = {name: _Sums(pool) for name in [*names, *TREES, "oracle"]}
    rng = np.random.default_rng([seed, group])
    half = pool.rewards.shape[1] // 2
    plain, repeated = sizes(rollouts, group), sizes(rollouts, group, REPEAT)
    for _ in range(times):
        order = shuffled(pool, rng)
        now, past = order[:, :half], order[:, half:]
        batch = draw(pool, plain, now, rng)
        rewards, levels = pool.rewards[batch.prompt, batch.place], batch.draw[:, None]
        for name in names:
            found[name].add(batch, PLAIN[name](rewards, levels))
        found["oracle"].add(batch, oracle(pool, batch))
        batch = batch if group > 1 else draw(pool, repeated, now, rng)
        for name, tree in TREES.items():
            known = learn(pool, tree(pool), repeated, past, rng)
            found[name].add(batch, hierarchical(pool, tree(pool), batch, known))
    return {name: sums.trials() for name, sums in found.items()}


class _Sums:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._updates: list[np.ndarray] = []
        self._weights = np.zeros(pool.rewards.shape)  # summed A_i / N of each rollout of the pool
        self._squares: list[float] = []

    def add(self, batch: Batch, advantages: Floats) -> None:
        scaled = advantages / len(advantages)
        self._updates.append(scaled.astype(np.float32) @ self._pool.gradients[batch.prompt, batch.place])
        np.add.at(self._weights, (batch.prompt, batch.place), scaled)
        self._squares.append(float(np.square(advantages).mean()))

    def trials(self) -> Trials:
        by_prompt = np.einsum("pc,pcd->pd", self._weights, self._pool.gradients) * len(self._weights)
        return Trials(np.array(self._updates), by_prompt / len(self._updates), float(np.mean(self._squares)))
