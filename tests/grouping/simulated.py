"""A run in which the prompts' families and their pass rates are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from groupwise.advantage.hierarchical import hierarchical_advantages
from groupwise.config.grouping import GroupingConfig
from groupwise.grouping.features import Vectors
from groupwise.grouping.grouping import Grouping
from groupwise.grouping.variance import VarianceComponents
from groupwise.types import Floats, Groups, Ints

from .clusters_of import semantic

MEMORY = 4 * 2**30


def baseline(rewards: Floats, levels: Ints, variances: Floats) -> Floats:
    return hierarchical_advantages(rewards, levels, variances)


@dataclass
class Update:
    groups: Groups
    rewards: Floats  # [N]
    variances: Floats | None
    grouping: Grouping


def run(
    rates: Sequence[float],
    updates: int,
    *,
    apart: float = 1.0,
    noise: float = 0.3,
    prompts: int = 64,
    group_size: int = 2,
    seed: int = 0,
    embed: str = "families",
    spread: float = 0.0,
    **config: object,
) -> Iterator[Update]:
    """Fresh prompts every update, of families with pass `rates` give or take `spread`, `apart` in their embeddings.

    `embed`: families, or the deliberately bad random, giant (all alike) and singletons (none alike).
    """
    rng = np.random.default_rng(seed)
    width = 16 if embed != "singletons" else 64
    centres = rng.normal(size=(len(rates), width))
    centres = rng.normal(size=width) / 4 + apart * centres / np.linalg.norm(centres, axis=1, keepdims=True)
    grouping = Grouping(GroupingConfig.model_validate({"kind": "clusters", **config}), memory=MEMORY, seed=seed)
    variances = VarianceComponents(len(grouping.names))
    rows = np.repeat(np.arange(prompts), group_size)
    for update in range(updates):
        family = rng.integers(len(rates), size=prompts)
        vectors = _embedded(embed, centres[family] + noise / 4 * rng.normal(size=(prompts, width)), rng)
        passes = np.clip(np.array(rates)[family] + spread * rng.normal(size=prompts), 0, 1)
        groups = grouping.assign([f"{update}/{i}" for i in rows], [("all", "t")] * len(rows), semantic(vectors[rows]))
        rewards = (rng.random(len(rows)) < passes[rows]).astype(np.float64)
        known = variances.estimates() if variances.ready else None
        yield Update(groups, rewards, known, grouping)
        grouping.learn(groups, rewards, known, baseline)
        variances.add(rewards, groups.levels)


def _embedded(kind: str, vectors: Floats, rng: np.random.Generator) -> Vectors:
    made = {
        "families": lambda: vectors,
        "random": lambda: np.eye(vectors.shape[1])[rng.integers(8, size=len(vectors))],
        "giant": lambda: np.ones_like(vectors),
        "singletons": lambda: rng.normal(size=vectors.shape),
    }
    return np.asarray(made[kind](), np.float32)
