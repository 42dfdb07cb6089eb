"""`--report`: what the runs so far show, kept as a result and put into the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

import pages
from compare_trl.pairs import QUIET
from compare_trl.report import describe
from sample_efficiency.places import write_json

from time_to_score.analysis import compare, interval, score
from time_to_score.plan import TUNING_SEEDS, Job, best_setting
from time_to_score.training import RESULTS, results

HEADER = ("seed", "start", "TRL's end", "our end", "TRL, s", "ours, s", "TRL / ours", "others' share")


def report(seeds: Sequence[int], steps: int, rivals: Sequence[int]) -> None:
    found = {minibatches: analyse(results(), seeds, steps, minibatches) for minibatches in rivals}
    write_json(RESULTS / "summary.json", {f"{minibatches} optimizer steps": one for minibatches, one in found.items()})
    text = "\n\n".join(map(as_text, found.values()))
    pages.fill(pages.SPEED, "time_to_score", text)
    print(text)


def analyse(found: Mapping[str, Any], seeds: Sequence[int], steps: int, minibatches: int) -> dict[str, Any]:
    """Against TRL with so many optimizer steps on a batch, of the pairs that are whole.

    found: results by the names of their jobs.
    """
    scores = {name: score(result["points"][-1]) for name, result in found.items()}
    setting = best_setting(scores, steps, minibatches)
    if setting is None:
        raise SystemExit("TRL's learning rate is not tuned yet; run benchmarks/time_to_score.py")
    pairs = []
    for seed in seeds:
        trl, ours = (found.get(Job(seed, steps, side).name) for side in (setting, None))
        if trl and ours:
            foreign = max(trl["foreign"], ours["foreign"])
            pairs.append({"seed": seed, **compare(trl["points"], ours["points"]), "foreign": foreign})
    if not pairs:
        raise SystemExit("no seed has been trained by both sides yet; run benchmarks/time_to_score.py")
    tuned = [r for r in found.values() if (r.get("minibatches"), r["steps"]) == (minibatches, steps)]
    ratio, low, high = interval([pair["ratio"] for pair in pairs])
    return {
        "ratio": ratio,
        "interval": [low, high],
        "update_ratio": mean(pair["update_ratio"] for pair in pairs),
        **setting._asdict(),
        "tuning": [
            {key: r[key] for key in ("rate", "group", "seed")} | {"score": score(r["points"][-1])}
            for r in tuned
            if r["seed"] in TUNING_SEEDS
        ],
        "pairs": pairs,
        "machine": next(iter(found.values()))["machine"],
    }


def as_text(found: Mapping[str, Any]) -> str:
    pairs, steps = found["pairs"], found["minibatches"]
    low, high = found["interval"]
    title = f"### TRL with {steps} optimizer step{'s' if steps > 1 else ''} on each batch of rollouts"
    summary = (
        f"**{found['ratio']:.2f}** times as fast to TRL's score (95 % interval {low:.2f} to {high:.2f}, geometric mean "
        f"over {len(pairs)} seeds); {found['update_ratio']:.2f} times as fast a rollout. TRL's tuned learning rate is "
        f"{found['rate']:g}, with {found['group']} completions a prompt. Machine: {describe(found['machine'])}."
    )
    lines = [title, pages.table(HEADER, map(row, pairs)), summary]
    missed = sum(not pair["reached"] for pair in pairs)
    if missed:
        lines.append(f"On {missed} of the seeds ours did not get there; its whole training counts, marked >.")
    if any(pair["foreign"] >= QUIET for pair in pairs):
        lines.append(f"Other processes used {QUIET:.0%} of the machine or more during some of these runs.")
    return "\n\n".join(lines)


def row(pair: Mapping[str, Any]) -> list[str]:
    return [
        str(pair["seed"]),
        f"{pair['start']:.1%}",
        f"{pair['target']:.1%}",
        f"{pair['ours_final']:.1%}",
        f"{pair['trl_seconds']:.0f}",
        f"{'' if pair['reached'] else '> '}{pair['ours_seconds']:.0f}",
        f"{'' if pair['reached'] else '< '}{pair['ratio']:.2f}",
        f"{pair['foreign']:.1%}",
    ]
