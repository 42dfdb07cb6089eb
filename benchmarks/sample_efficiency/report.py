"""`report`: what the learning runs show so far, and what is missing: learning.json, a table, and the documentation."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any

import numpy as np

from sample_efficiency import page
from sample_efficiency.curves import area, area_by_task, final, interval, iqm, points, rollouts_ratio, worst
from sample_efficiency.learning import results
from sample_efficiency.places import RESULTS, write_json
from sample_efficiency.plan import MIXES, RATES, Job, Plan, best_rate

AGAINST = ("grpo@8", "grpo@8 slow")  # the better one at the end
Run = dict[str, Any]


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES), help="as given to `learning`")


def run(arguments: Namespace) -> None:
    if runs := results():
        plan = Plan(rates=tuple(arguments.rates))
        found = {mix: analyse(plan, mix, runs) for mix in MIXES}
        machines = {tuple(sorted(r["machine"].items())) for r in runs}
        write_json(
            RESULTS / "learning.json",
            {"machines": [dict(m) for m in sorted(machines)], "mixes": found},
        )
        for mix, result in found.items():
            show(mix, result)
    print(f"written into {page.PAGE.name}: {', '.join(page.write()) or 'nothing, there are no results yet'}")


def analyse(plan: Plan, mix: str, runs: Sequence[Run]) -> dict[str, Any]:
    """Every arm of a mix at its learning rate, on the seeds that are there, and paired by seed with one of AGAINST."""
    mine, seeds = [r for r in runs if r["mix"] == mix], plan.seeds_of(mix)
    scores = {name_of(r): area(r["curve"]) for r in runs}
    arms, steps = plan.arms_of(mix), MIXES[mix].steps
    chosen: dict[str, dict[int, Run]] = {}
    rates: dict[str, float | None] = {}
    for arm in arms:
        rates[arm] = rate = best_rate(plan, mix, arm, scores)
        whole = [r for r in mine if (r["arm"], r["rate"], r["steps"]) == (arm, rate, steps)]
        chosen[arm] = {r["seed"]: r for r in whole if r["seed"] in seeds}
    ends = {arm: np.mean([final(r["curve"]) for r in chosen[arm].values()]) for arm in AGAINST if chosen.get(arm)}
    against = max(ends, key=lambda arm: ends[arm], default=AGAINST[0])
    return {
        "steps": steps,
        "against": against,
        "arms": {
            arm: {"rate": rates[arm]} | of_arm(by_seed, chosen.get(against, {}))
            for arm, by_seed in chosen.items()
            if by_seed
        },
        "beyond_global": {
            f"{arm} - {other}": pair(by_seed, chosen[other])["area_difference"]
            for arm, by_seed in chosen.items()
            if arm.startswith("hierarchical")
            and set(by_seed) & set(chosen.get(other := arm.replace("hierarchical", "global"), {}))
        },
        "missing": {
            arm: "learning rate" if rates[arm] is None else [s for s in seeds if s not in chosen[arm]]
            for arm in arms
            if len(chosen[arm]) < len(seeds)
        },
    }


def name_of(run: Run) -> str:
    return Job(**{key: run[key] for key in ("mix", "arm", "rate", "seed", "steps")}).name


def of_arm(by_seed: dict[int, Run], against: dict[int, Run]) -> dict[str, Any]:
    """Numbers of one arm; those of `paired` are on the seeds that `against` has too."""
    curves = [r["curve"] for _, r in sorted(by_seed.items())]
    tasks = list(curves[0][0]["by_task"])
    by_task = np.array([[area_by_task(curve)[task] for task in tasks] for curve in curves])
    finals = np.array([[curve[-1]["by_task"][task] for task in tasks] for curve in curves])
    mean = {task: float(value) for task, value in zip(tasks, finals.mean(0), strict=True)}
    return {
        "seeds": sorted(by_seed),
        "seconds": float(np.median([r["seconds"] for r in by_seed.values()])),
        "start": float(np.mean([points(curve)[1][0] for curve in curves])),
        "final": float(finals.mean()),
        "final_iqm": with_interval(finals),
        "area": float(by_task.mean()),
        "area_iqm": with_interval(by_task),
        "worst_task": min(mean, key=lambda task: mean[task]),
        "worst_final": with_interval(np.array([worst(curve) for curve in curves])),
        "curve": mean_curve(curves),
        "paired": pair(by_seed, against) if set(by_seed) & set(against) else None,
    }


def pair(by_seed: dict[int, Run], other: dict[int, Run]) -> dict[str, Any]:
    return paired([(by_seed[seed]["curve"], other[seed]["curve"]) for seed in sorted(set(by_seed) & set(other))])


def paired(pairs: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
    """Against the other arm, seed by seed: held-out prompts, their sampling and the order of the data are the same.

    gain            of the area under the curve over the start, as a ratio
    rollouts_ratio  of the seeds' mean curves: the other's rollouts divided by those after which this arm reaches the
                    other's final score, 0 where it never does; with a 95 % bootstrap interval over seeds
    """
    area_difference = np.array([area(mine) - area(other) for mine, other in pairs])
    final_difference = np.array([final(mine) - final(other) for mine, other in pairs])
    gains = np.array([gain(mine) / gain(other) for mine, other in pairs if gain(other) > 0])
    return {
        "seeds": len(pairs),
        "area_difference": with_interval(area_difference),
        "final_difference": with_interval(final_difference),
        "gain": with_interval(gains) if len(gains) else None,
        "rollouts_ratio": rollouts_ratio([mine for mine, _ in pairs], [other for _, other in pairs]),
    }


def gain(curve: Any) -> float:
    return area(curve) - float(points(curve)[1][0])


def with_interval(values: np.ndarray) -> list[float]:
    """Interquartile mean, and its 95 % bootstrap interval over seeds."""
    return [iqm(values), *interval(values)]


def mean_curve(curves: Sequence[Any]) -> list[list[float]]:
    """[rollouts, pass@1] where all seeds were evaluated."""
    at = [dict(zip(*(axis.tolist() for axis in points(curve)), strict=True)) for curve in curves]
    common = sorted(set.intersection(*(set(rates) for rates in at)))
    return [[rollouts, float(np.mean([rates[rollouts] for rates in at]))] for rollouts in common]


def show(mix: str, found: dict[str, Any]) -> None:
    print(
        f"\n{mix}: IQM with 95 % bootstrap intervals; ratios and differences are paired with {found['against']} by seed"
    )
    print(
        f"{'arm':18} {'rate':>7} {'n':>2}  {'area':21} {'final':21} {'worst task':10} "
        f"{'area difference':>22}  rollouts ratio"
    )
    for arm, row in sorted(found["arms"].items(), key=lambda item: -item[1]["area"]):
        found_pair = row["paired"]
        print(
            f"{arm:18} {row['rate']:7g} {len(row['seeds']):2}  {words(row['area_iqm']):21} "
            f"{words(row['final_iqm']):21} {row['worst_final'][0]:10.3f} "
            + (
                f"{words(found_pair['area_difference'], '+.3f'):>22}  {words(found_pair['rollouts_ratio'], '.2f')}"
                if found_pair
                else ""
            )
        )
    for arm, what in found["missing"].items():
        print(f"missing: {arm}: {what if isinstance(what, str) else 'seeds ' + ' '.join(map(str, what))}")


def words(values: Sequence[float] | None, form: str = ".3f") -> str:
    return "-" if values is None else "{:{f}} ({:{f}}, {:{f}})".format(*values, f=form)
