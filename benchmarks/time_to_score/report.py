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

SAME = ("machine", "eval_prompts", "eval_every")  # of both sides of a seed
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
    pairs: list[dict[str, Any]] = []
    machines = []
    for seed in seeds:
        trl, ours = (found.get(Job(seed, steps, side).name) for side in (setting, None))
        if not (trl and ours):
            continue
        if apart := [key for key in SAME if trl[key] != ours[key]]:
            raise SystemExit(f"seed {seed}: the sides differ in {apart[0]}; remove its results and run it again")
        try:
            both = compare(trl["points"], ours["points"])
        except ValueError as error:
            raise SystemExit(f"seed {seed}: {error}") from None
        pairs.append({"seed": seed, **both, "foreign": max(trl["foreign"], ours["foreign"])})
        machines.append(ours["machine"])
    if len(pairs) < 2:
        raise SystemExit("fewer than two seeds have been trained by both sides; run benchmarks/time_to_score.py")
    if any(machine != machines[0] for machine in machines):
        raise SystemExit("the seeds were trained on different machines; a ratio of seconds needs one")
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
        "machine": machines[0],
    }


def as_text(found: Mapping[str, Any]) -> str:
    pairs, steps = found["pairs"], found["minibatches"]
    low, high = found["interval"]
    title = f"### TRL with {steps} optimizer step{'s' if steps > 1 else ''} on each batch of rollouts"
    missed = sum(not pair["reached"] for pair in pairs)
    faster = (
        f"On {missed} of {len(pairs)} seeds ours did not get to TRL's score (its whole training is shown, marked >), "
        "so there is no ratio"
        if missed
        else f"**{found['ratio']:.2f}** times as fast to TRL's score (95 % interval {low:.2f} to {high:.2f}, geometric "
        f"mean over {len(pairs)} seeds)"
    )
    summary = (
        f"{faster}; {found['update_ratio']:.2f} times as fast a rollout. TRL's tuned learning rate is "
        f"{found['rate']:g}, with {found['group']} completions a prompt. Machine: {describe(found['machine'])}."
    )
    lines = [title, pages.table(HEADER, map(row, pairs)), summary]
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
