"""How many clusters and prompts are remembered, by the memory at hand and the rollouts seen."""

from __future__ import annotations

SHARE = 0.02  # of the free memory that grouping may take
LEAST_CLUSTERS, MOST_CLUSTERS = 16, 65536
AT_ONCE = 256  # clusters that the first update may open: what is forced together there stays together
LEAST_PROMPTS, MOST_PROMPTS = 1024, 1_000_000
ROLLOUTS_A_CLUSTER = 8  # below that a cluster's mean says little
OVERHEAD = 400  # bytes a prompt: its key, and its places in dictionaries
GRAPH = 600  # bytes a centroid: its links, and its places in dictionaries


def most_prompts(memory: int, width: int) -> int:
    """Prompts whose vectors [`width`], float32, are remembered in half of the share of `memory` free bytes."""
    return min(MOST_PROMPTS, max(LEAST_PROMPTS, int(SHARE * memory / 2 / (4 * width + OVERHEAD))))


def most_clusters(memory: int, width: int, rollouts: int) -> int:
    """Clusters a level: one for every 8 of the `rollouts` seen, and 256 at once, as far as the other half allows.

    A centroid is `width` float64, and three times float32 in the index.
    """
    by_memory = int(SHARE * memory / 2 / (20 * width + GRAPH))
    return min(MOST_CLUSTERS, max(LEAST_CLUSTERS, min(by_memory, max(AT_ONCE, rollouts // ROLLOUTS_A_CLUSTER))))
