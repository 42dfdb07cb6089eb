"""Simulated rewards of prompts in clusters in domains, with known variances."""

from __future__ import annotations

import numpy as np

from groupwise.types import Floats, Ints


class World:
    """Domains and clusters that stay, prompts new in every batch; variances of domain, cluster, prompt and noise."""

    def __init__(self, seed: int, variances: tuple[float, ...], domains: int = 12, clusters: int = 5) -> None:
        self.rng = np.random.default_rng(seed)
        self.variances, self.clusters, self.prompts = variances, clusters, 0
        self.domain_effect = self.rng.normal(0, variances[0] ** 0.5, domains)
        self.cluster_effect = self.rng.normal(0, variances[1] ** 0.5, domains * clusters)

    def batch(self, sizes: Ints) -> tuple[Floats, Ints]:
        """rewards [N], levels [N, 3] of one prompt for each of `sizes` [P], its number of rollouts."""
        cluster = np.sqrt(self.rng.random(len(sizes))) * len(self.cluster_effect)  # some are drawn more than others
        cluster = cluster.astype(np.int64)
        prompt_effect = self.rng.normal(0, self.variances[2] ** 0.5, len(sizes))
        mean = 0.5 + self.domain_effect[cluster // self.clusters] + self.cluster_effect[cluster] + prompt_effect
        prompt = self.prompts + np.arange(len(sizes))
        self.prompts += len(sizes)
        levels = np.repeat(np.stack([cluster // self.clusters, cluster, prompt], axis=1), sizes, axis=0)
        return np.repeat(mean, sizes) + self.rng.normal(0, self.variances[3] ** 0.5, len(levels)), levels


def unequal_sizes(rng: np.random.Generator, rollouts: int = 128) -> Ints:
    """Sizes from 2 to 8 that sum to about `rollouts`."""
    sizes = rng.integers(2, 9, rollouts // 2)
    return np.asarray(sizes[np.cumsum(sizes) <= rollouts])


def some_twice(rng: np.random.Generator, rollouts: int = 128, share: float = 0.15) -> Ints:
    """One rollout a prompt, but two for a share of them."""
    return np.asarray(1 + (rng.random(int(rollouts / (1 + share))) < share).astype(np.int64))
