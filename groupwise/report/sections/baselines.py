"""What grouping is worth: where the variance of the reward lies, and which baseline predicts it best."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from groupwise.report import words
from groupwise.report.reading import Run
from groupwise.report.sections.charts import Chart, Line, Role
from groupwise.report.sections.derived import ROLES, names
from groupwise.types import Floats

DECAY = 0.95  # of the running mean, at each update
ENOUGH = 8  # updates before a difference is called more than noise ...
CLEAR = 2.0  # ... which it then is beyond so many standard errors
BASELINES: dict[str, tuple[str, Role]] = {
    "kernel": ("with the kernel", "main"),  # where it is on it is what the advantages use
    "hierarchical": ("hierarchical", "main"),
    "flat": ("no groups", "second"),
    "prompt": ("prompt mean", "third"),
    "global": ("batch mean", "fourth"),
    "random": ("random groups", "reference"),
}
RIVALS = {"global": "the plain batch mean", "prompt": "each prompt's own mean"}
IN_USE = {
    "learned": "The advantages use the clusters",
    "flat": "The advantages do without the clusters",
    "prompt": "The advantages compare each prompt with itself alone",
}


def shares(run: Run) -> Chart | None:
    """The variance of each level as a share of all, from the update on that knew any."""
    levels = names(run, "variance/", "")
    parts = [np.maximum(run.column(f"variance/{name}"), 0.0) for name in levels]
    whole = np.sum(parts, axis=0)
    if not np.any(whole > 0):
        return None
    known = np.where(whole > 0, whole, np.nan)
    return Chart(
        title="Where the variance lies",
        unit="share of the whole",
        how="Within is the luck of asking the same prompt again; all else lies between prompts, and can be foreseen.",
        format="share",
        lines=tuple(
            Line(label=name, values=part / known, role="reference" if name == "within" else ROLES[i % len(ROLES)])
            for i, (name, part) in enumerate(zip(levels, parts, strict=True))
        ),
        steps=run.steps,
        stacked=True,
        bounds=(0.0, 1.0),
    )


def errors(run: Run) -> Chart | None:
    """Running means of the errors, from the update on that had anything to go by."""
    known = scored(run)
    main = run.column("baseline/error/hierarchical")
    if not known.any():
        return None
    lines = []
    for name, (label, role) in BASELINES.items():
        values = run.column(f"baseline/error/{name}")
        if name == "hierarchical" or not np.array_equal(values[known], main[known], equal_nan=True):
            lines.append(Line(label=label, values=running_mean(np.where(known, values, np.nan)), role=role))
    return Chart(
        title="Which baseline predicts best",
        unit="mean squared error",
        how="Of rewards not yet seen, from what was known before; running means. Lower is better.",
        format="number",
        lines=tuple(line for line in lines if np.isfinite(line.values).any()),
        steps=run.steps,
        settled=True,
    )


def scored(run: Run) -> NDArray[np.bool_]:
    """[S] updates from the first on whose tree was anything but the mean of the batch."""
    tree, plain = (run.column(f"baseline/error/{name}") for name in ("hierarchical", "global"))
    return np.logical_or.accumulate(np.isfinite(tree) & np.isfinite(plain) & (tree != plain))


def verdict(run: Run) -> list[str]:
    """What it means for this run, in a sentence or two; none where nothing was recorded."""
    if "baseline/error/hierarchical" not in run.metrics:
        return []
    if not scored(run).any():
        return ["It is too early to say which baseline predicts best."]
    used = run.setting("advantage.kind") == "hierarchical" and run.setting("advantage.transfer") != "threshold"
    subject = "Grouping" if len(run.tree.last.get("names", [])) > 1 else "The hierarchical baseline"
    subject += " with the kernel" if _tree(run) == "kernel" else ""
    beside = [f"{gap} that of {who}" for name, who in RIVALS.items() if (gap := _gap(run, name))]
    said = f"{subject} {'predicts' if used else 'would predict'} rewards with an error {' and '.join(beside)}."
    return [*([said] if beside else []), *(_in_use(run) if used else [])]


def _tree(run: Run) -> str:
    """The error that speaks for the tree: the kernel's where that was ever on."""
    kernel, plain = (run.column(f"baseline/error/{name}") for name in ("kernel", "hierarchical"))
    return "kernel" if np.any(np.isfinite(kernel) & (kernel != plain)) else "hierarchical"


def _gap(run: Run, rival: str) -> str | None:
    """How far the error of the tree, or of the kernel on it, lies from a rival's, in words; None: they are the same."""
    tree, other = (run.column(f"baseline/error/{name}") for name in (_tree(run), rival))
    known = scored(run) & np.isfinite(tree - other)
    gaps, whole = (tree - other)[known], float(other[known].sum())
    if not gaps.any() or not whole:
        return None
    change = float(gaps.sum()) / whole
    if len(gaps) < ENOUGH or abs(gaps.mean()) * len(gaps) ** 0.5 < CLEAR * gaps.std(ddof=1):
        signed = f"{'+' if change > 0 else ''}{words.percent(change)}"
        return f"about the same ({signed} in {words.plural(len(gaps), 'update')}, no more than chance) as"
    return f"{words.percent(abs(change))} {'below' if change < 0 else 'above'}"


def _in_use(run: Run) -> list[str]:
    """Whether the clusters are used, and why; nothing where that is not judged."""
    judged = run.setting("grouping.kind") == "clusters" and run.setting("grouping.fallback") is not False
    last, used, minus = run.tree.last, run.tree.used, words.MINUS
    if not judged or not last:
        return []
    updates = words.plural(sum(used.values()), "update")
    often = f"they were used in {words.count(used.get('learned', 0))} of {updates}"
    return [f"{IN_USE[last['level']]}: {last['reason'].replace('(-', f'({minus}')}; {often}."]


def running_mean(values: Floats) -> Floats:
    """[S] mean of what came so far, at each update faded by `DECAY`; nan until something came."""
    out, total, weight = np.full(len(values), np.nan), 0.0, 0.0
    for i, value in enumerate(values):
        if np.isfinite(value):
            total, weight = DECAY * total + value, DECAY * weight + 1
        if weight:
            out[i] = total / weight
    return out
