"""What the study found so far, as pictures and tables in docs/sample-efficiency.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pages
from compare_trl.report import describe

from sample_efficiency.places import RESULTS, ROOT

PAGE = ROOT / "docs" / "sample-efficiency.md"
IMAGES = PAGE.parent / "images"
AGAINST = ("grpo", 8)
ARMS = {
    "grpo@8": "#cc3333",
    "grpo@8 slow": "#e69999",
    "global@1": "#33995c",
    "global@1 slow": "#99ccae",
    "hierarchical@1": "#1f4fb4",
    "hierarchical@1 slow": "#8fa7da",
    "hierarchical@2": "#33bbcc",
    "hierarchical@2 slow": "#99dde6",
}
HEADER = ("arm", "rate", "seeds", "area", "final", "worst task")
COLOURS = {
    "grpo": "#999999",
    "rloo": "#cc6633",
    "global": "#33995c",
    "jspo": "#aa66bb",
    "hierarchical prompt": "#b8cdf0",
    "hierarchical domain": "#7aa5f0",
    "hierarchical task": "#1f4fb4",
    "hierarchical clusters": "#33bbcc",
    "oracle": "#222222",
}


def write() -> list[str]:
    """Fill the places of all results that are there; returns their names."""
    done = []
    for name, text in (("variance", of_variance), ("learning", of_learning), ("overhead", of_overhead)):
        path = RESULTS / f"{name}.json"
        if path.exists():
            pages.fill(PAGE, name, text(json.loads(path.read_text())))
            done.append(name)
    return done


def of_variance(found: Mapping[str, Any]) -> str:
    draw_variance(found["policies"], IMAGES / "variance.png")
    policies = found["policies"].values()
    by_name = [{(row["estimator"], row["group_size"]): row["trace_unbiased"] for row in p["rows"]} for p in policies]
    names = sorted(by_name[0], key=lambda name: sum(each[name] / each[AGAINST] for each in by_name))
    rows = [
        [f"`{estimator}`@{group}", *(f"{each[AGAINST] / each[estimator, group]:.2f}" for each in by_name)]
        for estimator, group in names
    ]
    header = ("estimator@G", *(f"{when} (pass@1 {p['pass@1']:.0%})" for when, p in found["policies"].items()))
    what = "How many times an estimator's rollouts `grpo` with groups of 8 needs for an update as noisy"
    return "\n\n".join(
        [
            "![Trace of the gradient's covariance by group size](images/variance.png)",
            f"{what} (`trace_unbiased`):",
            pages.table(header, rows),
            f"Machine: {describe(found['machine'])}.",
        ]
    )


def draw_variance(policies: Mapping[str, Any], path: Path) -> None:
    plt = pyplot()
    figure, sides = plt.subplots(1, len(policies), figsize=(9, 3.4), layout="constrained")
    for side, (when, policy) in zip(sides, policies.items(), strict=True):
        for estimator, colour in COLOURS.items():
            points = [(r["group_size"], r["trace_unbiased"]) for r in policy["rows"] if r["estimator"] == estimator]
            style = "--" if estimator == "oracle" else "o-"
            side.plot(*zip(*points, strict=True), style, color=colour, label=estimator, markersize=4)
        side.set(xscale="log", xlabel="completions a prompt", title=f"{when}, pass@1 {policy['pass@1']:.0%}", ylim=0)
        side.set_xticks([1, 2, 4, 8], ["1", "2", "4", "8"])
        side.minorticks_off()
        side.grid(alpha=0.3)
    sides[0].set_ylabel("noise of an update")
    sides[0].legend(fontsize="x-small")
    save(figure, path)


def of_learning(found: Mapping[str, Any]) -> str:
    parts = []
    for mix, result in found["mixes"].items():
        if not result["arms"]:
            continue
        draw_learning(result["arms"], IMAGES / f"learning-{mix}.png")
        parts += [
            f"### The mix `{mix}`",
            f"![Held-out pass@1 by rollouts](images/learning-{mix}.png)",
            pages.table(
                (*HEADER, f"area beyond `{result['against']}`", "rollouts ratio"),
                [row(arm, values) for arm, values in by_area(result["arms"])],
            ),
        ]
        if result["beyond_global"]:
            beyond = "; ".join(
                f"`{names}` {words(values, '+.3f')}" for names, values in result["beyond_global"].items()
            )
            parts.append(f"Area beyond `global` at the same group size: {beyond}.")
        if result["missing"]:
            parts.append(f"Still missing: {missing(result['missing'])}.")
    return "\n\n".join([*parts, "Machine: " + "; ".join(map(describe, found["machines"])) + "."])


def by_area(arms: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return sorted(arms.items(), key=lambda item: -item[1]["area"])


def row(arm: str, values: Mapping[str, Any]) -> list[str]:
    paired = values["paired"]
    return [
        f"`{arm}`",
        f"{values['rate']:g}",
        str(len(values["seeds"])),
        words(values["area_iqm"], ".3f"),
        words(values["final_iqm"], ".3f"),
        words(values["worst_final"], ".3f"),
        words(paired["area_difference"], "+.3f") if paired else "",
        words(paired["rollouts_ratio"], ".2f").replace("0.00", "never") if paired else "",
    ]


def words(values: Sequence[float], form: str) -> str:
    return "{:{f}} ({:{f}} to {:{f}})".format(*values, f=form)


def missing(found: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{arm} ({what if isinstance(what, str) else 'seeds ' + ' '.join(map(str, what))})"
        for arm, what in found.items()
    )


def draw_learning(arms: Mapping[str, Any], path: Path) -> None:
    plt = pyplot()
    figure, side = plt.subplots(figsize=(7, 4), layout="constrained")
    for arm, values in sorted(arms.items(), key=lambda item: item[0] in ARMS):  # those with a name on top
        named = arm in ARMS
        side.plot(
            *zip(*values["curve"], strict=True), "o-" if named else "-", label=arm if named else None, markersize=3,
            linewidth=2 if named else 1, color=ARMS.get(arm, "#cccccc"),
        )  # fmt: skip
    if not set(arms) <= set(ARMS):
        side.plot([], [], color="#cccccc", linewidth=1, label="the others")
    side.set(xlabel="rollouts", ylabel="held-out pass@1")
    side.grid(alpha=0.3)
    side.legend(fontsize="small", loc="best")
    save(figure, path)


def of_overhead(found: Mapping[str, Any]) -> str:
    rows = [
        [
            f"`{name}`",
            *(f"{values[step]['median'] / 1000:.1f}" for step in ("embed", "group", "estimate")),
            f"{values['total_seconds']:.2f}",
            f"{share(values, 'group', 'estimate'):.2%}",
            f"{share(values, 'embed'):.2%}",
        ]
        for name, values in found["demo"].items()
    ]
    many = [
        [f"`{name}`", f"{values['prompts']:,}", *(f"{values[s]['median'] / 1000:.1f}" for s in ("group", "estimate")),
         f"{values['share']:.2%}"]
        for name, values in found["known"].items()
    ]  # fmt: skip
    return "\n\n".join(
        [
            pages.table(
                ("demo", "embed, ms", "group, ms", "estimate, ms", "update, s", "group and estimate", "embed"), rows
            ),
            pages.table(("known prompts", "count", "group, ms", "estimate, ms", "share of the demo's update"), many),
            f"Machine: {describe(found['machine'])}, {found['settings']['threads']} thread(s).",
        ]
    )


def share(values: Mapping[str, Any], *steps: str) -> float:
    """Of an update's time."""
    return float(sum(values[step]["median"] for step in steps) / 1e6 / values["total_seconds"])


def pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def save(figure: Any, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot().close(figure)
