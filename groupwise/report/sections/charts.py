"""What a chart is, and the table of those that are drawn straight from the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from groupwise.report.reading import Run
from groupwise.types import Floats, Ints

Format = Literal["number", "share", "seconds", "count"]
Role = Literal["main", "second", "third", "fourth", "reference"]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One curve; its role chooses its colour. `points`: few and exact, so drawn as they are."""

    label: str
    values: Floats  # [S], nan where nothing was recorded
    role: Role = "main"
    points: bool = False


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A figure: title, unit, a sentence on how to read it, and its lines over the steps."""

    title: str
    unit: str
    how: str
    format: Format
    lines: tuple[Line, ...]
    steps: Ints  # [S]
    stacked: bool = False
    settled: bool = False  # its lines are running means, and are drawn as they are
    limit: tuple[str, float] | None = None  # a dashed line: its name and height
    bounds: tuple[float | None, float | None] = (None, None)  # of the vertical axis; None: as the values ask
    log: bool = False
    small: bool = False
    wide: bool = False


@dataclass(frozen=True)
class Plot:
    """A chart of metrics as they are: metric -> its label there."""

    title: str
    unit: str
    how: str
    keys: Mapping[str, str]
    format: Format = "number"
    limit: tuple[str, str] | None = None  # name, and the recipe's key that holds it
    from_zero: bool = True

    def chart(self, run: Run) -> Chart | None:
        """None where none of the metrics was recorded."""
        roles: tuple[Role, ...] = ("main", "second", "third", "fourth")
        found = [key for key in self.keys if key in run.metrics]
        if not found:
            return None
        lines = tuple(
            Line(label=self.keys[key], values=run.column(key), role=roles[i % 4]) for i, key in enumerate(found)
        )
        return Chart(
            title=self.title,
            unit=self.unit,
            how=self.how,
            format=self.format,
            lines=lines,
            steps=run.steps,
            limit=self._limit(run),
            bounds=(0.0 if self.from_zero else None, None),
            log=spans_decades(lines),
        )

    def _limit(self, run: Run) -> tuple[str, float] | None:
        value = run.setting(self.limit[1]) if self.limit else None
        return (self.limit[0], float(value)) if self.limit and isinstance(value, int | float) else None


def spans_decades(lines: tuple[Line, ...], ratio: float = 300.0) -> bool:
    """Whether the values are positive and so far apart that only a logarithmic axis shows them."""
    values = np.concatenate([line.values for line in lines])
    values = values[np.isfinite(values)]
    return len(values) > 1 and bool(values.min() > 0) and bool(values.max() > ratio * np.median(values))


LEARNING = (
    Plot(
        "Reward",
        "mean of the update",
        "What the policy is paid for. Faint: each update; bold: its running mean.",
        {"reward/mean": "reward"},
        from_zero=False,
    ),
)

COMPLETIONS = (
    Plot(
        "Completion length",
        "tokens",
        "A mean that climbs towards the limit means that answers are about to be cut.",
        {"completion/length_mean": "mean", "completion/length_max": "longest"},
        format="count",
        limit=("rollout.max_tokens", "rollout.max_tokens"),
    ),
    Plot(
        "Entropy",
        "nats a token",
        "How undecided the policy is. A slow fall is learning; a sudden one, to nearly 0, is collapse.",
        {"policy/entropy": "entropy"},
    ),
)

UPDATE = (
    Plot(
        "Gradient norm",
        "before clipping",
        "Above the dashed line an update is scaled down to it. Spikes come before trouble.",
        {"policy/grad_norm": "norm"},
        limit=("update.max_grad_norm", "update.max_grad_norm"),
    ),
    Plot(
        "Clip fraction",
        "share of tokens",
        "Tokens whose gradient the clip stopped. Many of them: the steps are too large for this batch.",
        {"policy/clip_fraction": "clipped"},
        format="share",
    ),
    Plot(
        "KL from the reference",
        "nats a token",
        "How far the policy has moved from where it began.",
        {"policy/kl": "KL"},
        from_zero=False,
    ),
    Plot(
        "Mismatch",
        "nats a token",
        "Engine against learner under the same weights: numerical noise alone, so it should stay flat and tiny.",
        {"policy/mismatch": "mean difference"},
    ),
    Plot(
        "Largest ratio",
        "new to old probability",
        "How far one update moved any token. Far above the clip range: old rollouts or too high a rate.",
        {"policy/ratio_max": "largest"},
    ),
    Plot(
        "Loss",
        "of the update",
        "In policy gradients it hovers about 0 and says little; rewards say how learning goes.",
        {"loss": "loss"},
        from_zero=False,
    ),
    Plot(
        "Learning rate",
        "of AdamW",
        "The schedule, as it was followed.",
        {"policy/learning_rate": "rate"},
    ),
)

GROUPS = (
    Plot(
        "Advantage",
        "of the rollouts learned from",
        "The spread is the signal; it goes to 0 when all rollouts that are compared get the same reward.",
        {"advantage/std": "standard deviation", "advantage/mean": "mean"},
        from_zero=False,
    ),
    Plot(
        "Groups without variance",
        "share of prompts",
        "All completions got the same reward: against their own mean they teach nothing.",
        {"groups/zero_variance": "share"},
        format="share",
    ),
    Plot(
        "Groups",
        "an update",
        "How many groups the update learned from.",
        {"groups/count": "groups"},
        format="count",
    ),
    Plot(
        "Group size",
        "rollouts",
        "Mean number of rollouts in a group.",
        {"groups/size_mean": "mean"},
    ),
    Plot(
        "Shrinkage",
        "share of the baseline",
        "How much of a prompt's baseline comes from beyond its own other rollouts.",
        {"groups/shrinkage": "from beyond"},
        format="share",
    ),
    Plot(
        "Likeness within groups",
        "intraclass correlation",
        "Share of the prompts' differences that lies between groups. At 0 or below they group nothing that matters.",
        {"groups/icc": "correlation"},
        from_zero=False,
    ),
    Plot(
        "Borders moved",
        "so far",
        "Clusters split and merged, and prompts passed on, where that predicts rewards better.",
        {"groups/splits": "splits", "groups/merges": "merges", "groups/moves": "moves"},
        format="count",
    ),
    Plot(
        "Half-life of the past",
        "updates",
        "After so many a past reward of a prompt counts half. Short: the policy changes fast; at 0 it does not fade.",
        {"history/half_life": "half-life"},
    ),
)

MACHINE = (
    Plot(
        "Speed",
        "completion tokens a second",
        "Tokens drawn by the seconds of the whole update, learning included.",
        {"tokens/per_second": "tokens a second"},
        format="count",
    ),
    Plot(
        "Peak memory",
        "MiB",
        "The most that the process has held so far. It should level off; a steady climb is a leak.",
        {"memory/peak_mib": "memory"},
        format="count",
    ),
)
