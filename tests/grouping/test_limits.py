from __future__ import annotations

from groupwise.grouping.limits import (
    AT_ONCE,
    LEAST_CLUSTERS,
    LEAST_PROMPTS,
    MOST_CLUSTERS,
    SHARE,
    most_clusters,
    most_prompts,
)

GIB = 2**30


def test_more_memory_remembers_more_within_its_share() -> None:
    sizes = [most_prompts(gib * GIB, 512) for gib in (1, 4, 16)]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 3
    assert sizes[-1] * 4 * 512 < SHARE * 16 * GIB
    assert most_prompts(0, 512) == LEAST_PROMPTS
    assert most_prompts(16 * GIB, 4096) < most_prompts(16 * GIB, 512)


def test_clusters_follow_the_rollouts_until_memory_is_full() -> None:
    assert [most_clusters(16 * GIB, 256, n) for n in (0, 128, 2560, 10240)] == [AT_ONCE, AT_ONCE, 320, 1280]
    assert most_clusters(0, 256, 10240) == LEAST_CLUSTERS
    assert most_clusters(1 * GIB, 4096, 10**9) < most_clusters(16 * GIB, 4096, 10**9) <= MOST_CLUSTERS
