"""`--report`: a table of all results in the documentation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pages
from sample_efficiency.places import RESULTS as BESIDE

from compare_trl.pairs import WANTED
from compare_trl.works import WORKS

RESULTS = BESIDE.parent / "compare_trl"
HEADER = ("work", "type", "TRL, s", "ours, s", "TRL / ours", "TRL, MiB", "ours, MiB", "ours / TRL", "tokens", "pairs")


def report() -> None:
    found = [json.loads(path.read_text()) for path in RESULTS.glob("*.json")]
    if not found:
        raise SystemExit("there is no result yet; run benchmarks/compare_trl.py --work NAME first")
    pages.fill(pages.SPEED, "compare_trl", as_text(found))
    print(f"{len(found)} results are in {pages.SPEED.name}")


def as_text(found: list[dict[str, Any]]) -> str:
    """The table, in the order of the works, and the machines it was made on."""
    order = list(WORKS)
    found = sorted(found, key=lambda result: (order.index(result["work"]), result["dtype"] != "float32"))
    machines = dict.fromkeys(describe(result["machine"]) for result in found)
    lines = [pages.table(HEADER, map(row, found)), "Machine: " + "; ".join(machines) + "."]
    tried = [result for result in found if result["trl_tried"]]
    if tried:
        lines.append(
            "Where TRL's best settings were not known they were tried, each by itself, two steps; the fastest: "
            + "; ".join(map(fastest, tried))
            + "."
        )
    return "\n\n".join(lines)


def fastest(result: Mapping[str, Any]) -> str:
    """TRL's settings, and its seconds a step when nothing else had run in between."""
    best = min(result["trl_tried"], key=lambda tried: tried["seconds"])
    way = ", continuous batching" if best["continuous"] else ""
    return f"{result['work']} micro-batches of {best['micro_batch']}{way}, {best['seconds']:.1f} s"


def row(result: Mapping[str, Any]) -> list[str]:
    low, high = result["time_ratio_quartiles"]
    pairs, tokens = f"{result['quiet_pairs']} of {len(result['pairs'])}", result["tokens"]
    same = tokens["trl"] == tokens["ours"]
    return [
        result["work"],
        result["dtype"] if result["device"] == "cpu" else f"{result['dtype']}, GPU",
        f"{result['trl_seconds']:.2f}",
        f"{result['ours_seconds']:.2f}",
        f"**{result['time_ratio']:.2f}** ({low:.2f} to {high:.2f})",
        f"{result['trl_mib']:,.0f}",
        f"{result['ours_mib']:,.0f}",
        f"**{result['memory_ratio']:.2f}**",
        f"{tokens['ours']:,.0f}" if same else f"{tokens['trl']:,.0f} / {tokens['ours']:,.0f}",
        pairs if result["quiet_pairs"] >= WANTED else f"{pairs}: too few",
    ]


def describe(machine: Mapping[str, str]) -> str:
    where = machine["cpu"] if machine["gpu"] == "none" else machine["gpu"]
    return f"{where}, {machine['cores']} cores, torch {machine['torch']}"
