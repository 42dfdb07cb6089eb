"""How the time of an assignment to a cluster grows with the number of prompts: benchmarks/results/grouping_index.json.

    python benchmarks/grouping_index.py [--most 1000000] [--seed 0]

Prompts in nested families, as in data sets: one cluster for every 100 prompts, 64 features, one thread. The clusters
start as they are after so many prompts, their centroids already the means of 100 members; then 1,000 more come one
after another. The time is the processor's, in blocks of 100 (median and quartiles). Recall: how often the nearest
centroid found is the exact one, over 1,000 newcomers. Beside what is shipped, exact search while it is the faster and
the graph beyond, stands the graph at every size.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np

from groupwise.grouping.clusters import Clusters
from groupwise.grouping.index import EXACT, CentroidIndex
from groupwise.stages.record import machine

RESULTS = Path(__file__).resolve().parent / "results" / "grouping_index.json"
SIZES = (1_000, 10_000, 100_000, 1_000_000)
WIDTH, A_CLUSTER, THRESHOLD, TIMED, BLOCK = 64, 100, 0.8, 1000, 100


def centres(count: int, rng: np.random.Generator) -> np.ndarray:
    """[count, WIDTH] of length 1: families of about 30 that share a direction."""
    families = rng.normal(size=(max(1, count // 30), WIDTH))
    mixed = families[rng.integers(len(families), size=count)] + 1.2 * rng.normal(size=(count, WIDTH))
    return mixed / np.linalg.norm(mixed, axis=1, keepdims=True)


def prompts(centre: np.ndarray, family: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[count, WIDTH] float32, one of each `family` [count]: similarity about .9 with its centre."""
    noise = rng.normal(size=(len(family), WIDTH)) * (0.45 / np.sqrt(WIDTH))
    return (centre[family] + noise).astype(np.float32)


def grown(size: int, centre: np.ndarray, exact: int, rng: np.random.Generator) -> Clusters:
    """Clusters that have seen `size` prompts, 100 each."""
    family = np.arange(size) % len(centre)
    vectors = np.concatenate([prompts(centre, family[i : i + 10_000], rng) for i in range(0, size, 10_000)])
    means = np.zeros(centre.shape)
    np.add.at(means, family, vectors)
    means /= np.bincount(family)[:, None]
    index = CentroidIndex(exact)
    for key, mean in enumerate(means):
        index.put(key, mean)
    clusters = Clusters(THRESHOLD, exact=exact)
    state = clusters.state() | {
        "index": {0: index.state()},
        "means": means,
        "counts": np.bincount(family).astype(float),
    }
    state |= {"domains": np.zeros(len(means), np.int64), "made": len(means), "members": list(enumerate(range(size)))}
    clusters.load_state(state | {"vectors": vectors, "cluster": family})
    return clusters


def measure(size: int, seed: int, exact: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    centre = centres(size // A_CLUSTER, rng)
    clusters = grown(size, centre, exact, rng)
    blocks = []
    for start in range(size, size + TIMED + BLOCK, BLOCK):
        vectors = prompts(centre, rng.integers(len(centre), size=BLOCK), rng)
        began = time.process_time()
        for key, vector in enumerate(vectors, start=start):
            clusters.assign(key, vector, 0)
        blocks.append(1e6 * (time.process_time() - began) / BLOCK)
    del blocks[0]  # in which room is made
    index = clusters._index[0]
    units = index._units[: len(index)]
    newcomers = prompts(centre, rng.integers(len(centre), size=TIMED), rng)
    best = [int(index._ids[(units @ v).argmax()]) for v in newcomers]
    return {
        "prompts": size,
        "clusters": len(clusters),
        "microseconds": float(np.median(blocks)),
        "quartiles": np.quantile(blocks, [0.25, 0.75]).tolist(),
        "recall": float(np.mean([index.nearest(v)[0][0] == b for v, b in zip(newcomers, best, strict=True)])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=SIZES[-1])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    found: dict[str, Any] = {
        "machine": machine(),
        "seed": arguments.seed,
        "width": WIDTH,
        "growth": {},
        "by_search": {},
    }
    for name, exact in (("as shipped", EXACT), ("graph", 0)):
        rows = [measure(size, arguments.seed, exact) for size in SIZES if size <= arguments.most]
        found["by_search"][name] = rows
        for row in rows:
            print(
                f"{name:10} {row['prompts']:9,} prompts {row['clusters']:7,} clusters {row['microseconds']:6.0f} us "
                f"({row['quartiles'][0]:.0f} to {row['quartiles'][1]:.0f}), recall {row['recall']:.3f}",
                flush=True,
            )
        growth = rows[-1]["microseconds"] / rows[0]["microseconds"]
        found["growth"][name] = growth
        print(f"{name:10} growth from {rows[0]['prompts']:,} to {rows[-1]['prompts']:,} prompts: {growth:.1f} times")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
