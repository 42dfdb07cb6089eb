"""The groups: what they are worth, and their tree with the reward of each over the updates."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from groupwise.report import words
from groupwise.report.reading import Run
from groupwise.report.sections import baselines
from groupwise.report.sections.base import Section
from groupwise.report.sections.curves import chart_data, figure
from groupwise.report.tree import GIVEN, Key, Node, walk

MOST_NODES = 80  # the largest are shown
STRETCHES = 24  # of the run, a point each
WIDTH, HEIGHT, MARGIN = 130, 30, 3  # pixels of a small line
LATE = 5  # early and late are the first and the last fifth of a group's updates


def build(run: Run) -> Section | None:
    charts = [chart for chart in (baselines.shares(run), baselines.errors(run)) if chart]
    verdict = baselines.verdict(run)
    if not (charts or run.tree.roots or verdict):
        return None
    return Section(
        id="groups",
        title="Groups",
        context={
            "verdict": verdict,
            "charts": [figure(chart, number) for number, chart in enumerate(charts)],
            "tree": tree(run.tree.roots),
            "clustered": any(node.key[0] not in GIVEN for node in walk(run.tree.roots)),
        },
        data=[chart_data(chart) for chart in charts],
        scripts=("vendor/echarts.common.min.js", "charts.js") if charts else (),
    )


def tree(roots: Sequence[Node]) -> dict[str, Any]:
    """The largest groups as the template lists them."""
    roots = [_without_single_children(node) for node in roots]
    nodes = list(walk(roots))
    if not nodes:
        return {"rows": [], "rest": ""}
    largest = sorted(nodes, key=lambda node: -node.rollouts)[:MOST_NODES]
    scale = Scale(
        first=min(int(node.steps.min()) for node in nodes),
        last=max(int(node.steps.max()) for node in nodes),
        low=min(0.0, *(float(node.rewards.min()) for node in nodes)),
        high=max(1e-9, *(float(node.rewards.max()) for node in nodes)),
    )
    return _branch(roots, {node.key for node in largest}, scale)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What the small lines have in common: updates from left to right, rewards from the bottom up."""

    first: int
    last: int
    low: float
    high: float

    def line(self, node: Node) -> list[tuple[float, float]]:
        """Its mean rewards in stretches of the run, as pixels; where it had no rollouts there is no point."""
        span = max(1, self.last - self.first)
        stretch = (node.steps - self.first) * STRETCHES // (span + 1)
        parts = [slice(*np.searchsorted(stretch, (at, at + 1))) for at in np.unique(stretch)]
        across, up = (WIDTH - 2 * MARGIN) / span, (HEIGHT - 2 * MARGIN) / (self.high - self.low)
        return [
            (
                round(MARGIN + (float(node.steps[part].mean()) - self.first) * across, 1),
                round(HEIGHT - MARGIN - (node.mean(part) - self.low) * up, 1),
            )
            for part in parts
        ]


def _branch(nodes: Sequence[Node], shown: AbstractSet[Key], scale: Scale) -> dict[str, Any]:
    """Rows of those that are shown, and how much is left out."""
    left = [node for node in nodes if node.key not in shown]
    share = sum(node.rollouts for node in left) / max(1, sum(node.rollouts for node in nodes))
    return {
        "rows": [_row(node, shown, scale) for node in nodes if node.key in shown],
        "rest": f"{words.plural(len(left), 'smaller group')}, {words.percent(share)} of the rollouts" if left else "",
    }


def _row(node: Node, shown: AbstractSet[Key], scale: Scale) -> dict[str, Any]:
    updates = max(1, len(node.steps) // LATE)
    line = scale.line(node)
    return {
        "label": node.label,
        "detail": "" if node.key[0] in GIVEN else "{} #{}".format(*node.key),
        "rollouts": words.count(node.rollouts),
        "early": _reward(node.mean(slice(updates))),
        "late": _reward(node.mean(slice(-updates, None))),
        "line": " ".join(f"{x},{y}" for x, y in line),
        "end": line[-1],
        "inside": _branch(node.children, shown, scale),
    }


def _reward(value: float) -> str:
    return f"{value:.2f}".replace("-", words.MINUS)


def _without_single_children(node: Node) -> Node:
    """What holds the same rollouts is told once: a cluster as its only child, a domain with its only task's name."""
    while len(node.children) == 1 and node.children[0].rollouts == node.rollouts:
        [child] = node.children
        if node.key[0] not in GIVEN:
            node = child
        elif child.key[0] in GIVEN:
            label = node.label if node.label == child.label else f"{node.label}: {child.label}"
            node = replace(node, label=label, children=child.children)
        else:
            break
    return replace(node, children=tuple(_without_single_children(child) for child in node.children))
