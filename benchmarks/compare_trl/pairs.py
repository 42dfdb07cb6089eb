"""What pairs of steps say.

A pair: {"trl": step, "ours": step, "first": "trl" or "ours", "quiet": bool, "gflops": what the machine gave before it}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median, quantiles
from typing import Any

SIDES = ("trl", "ours")
QUIET = 0.05  # of the machine: a step during which others used more says little
USUAL = 0.8  # of the median matrix rate: below it the host has slowed the machine down without taking time from it
WANTED = 8  # quiet pairs
TOKENS_APART = 0.03  # with natural stops lengths are drawn; the medians may differ by this share

Pair = Mapping[str, Any]


def make_pair(steps: Mapping[str, Mapping[str, Any]], gflops: float = 0.0) -> dict[str, Any]:
    """steps: by side, in the order in which they were made. gflops 0: not measured."""
    quiet = all(step["foreign"] < QUIET for step in steps.values())
    return {**steps, "first": next(iter(steps)), "quiet": quiet, "gflops": gflops}


def quiet_ones(pairs: Sequence[Pair]) -> list[Pair]:
    """Those during which nothing else ran, and the machine was about as fast as it usually is."""
    usual = median(pair["gflops"] for pair in pairs) if pairs else 0.0
    return [pair for pair in pairs if pair["quiet"] and pair["gflops"] >= USUAL * usual]


def enough(pairs: Sequence[Pair], natural: bool, wanted: int) -> bool:
    """Whether the pairs, `wanted` of them at least, can be summed up: quiet ones, and the same work on both sides."""
    return len(pairs) >= wanted and len(quiet_ones(pairs)) >= min(wanted, WANTED) and tokens_agree(pairs, natural)


def tokens_agree(pairs: Sequence[Pair], natural: bool) -> bool:
    """Whether both sides have generated equally many tokens: in each step, or with natural stops in the median."""
    if not natural:
        return all(pair["trl"]["tokens"] == pair["ours"]["tokens"] for pair in pairs)
    trl, ours = (_median(pairs, side, "tokens") for side in SIDES)
    return abs(ours / trl - 1) <= TOKENS_APART


def summarise(pairs: Sequence[Pair], base_mib: Mapping[str, float]) -> dict[str, Any]:
    """Medians over the quiet pairs, or over all where none was; base_mib: memory of each side after its imports."""
    quiet = quiet_ones(pairs)
    counted = quiet or pairs
    ratios = [pair["trl"]["seconds"] / pair["ours"]["seconds"] for pair in counted]
    peaks = {side: max(pair[side]["peak_mib"] for pair in pairs) - base_mib[side] for side in SIDES}
    low, _, high = quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return {
        "time_ratio": median(ratios),
        "time_ratio_quartiles": [low, high],
        "memory_ratio": peaks["ours"] / peaks["trl"],
        **{f"{side}_seconds": _median(counted, side, "seconds") for side in SIDES},
        **{f"{side}_mib": peaks[side] for side in SIDES},
        "tokens": {side: _median(pairs, side, "tokens") for side in SIDES},
        "grad_norm": {side: _median(pairs, side, "grad_norm") for side in SIDES},
        "gflops": float(median(pair["gflops"] for pair in counted)),
        "quiet_pairs": len(quiet),
    }


def _median(pairs: Sequence[Pair], side: str, key: str) -> float:
    return float(median(pair[side][key] for pair in pairs))
