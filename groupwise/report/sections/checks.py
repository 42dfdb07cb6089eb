"""What a careful reader would look for first, looked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from groupwise.report import words
from groupwise.report.gains import by_task
from groupwise.report.reading import Run
from groupwise.report.sections.base import Section
from groupwise.types import Floats

LATE = 5  # "lately" is the last fifth of the run


@dataclass(frozen=True, kw_only=True)
class Check:
    """A question to the run. `find` gives a sentence where there is something to look at, None where there is not."""

    asks: str
    needs: tuple[str, ...]  # metrics without which it cannot be asked; none of them: it can always
    find: Callable[[Run], str | None]


def build(run: Run) -> Section | None:
    asked = [check for check in CHECKS if all(key in run.metrics for key in check.needs)]
    if not len(run.steps) or not asked:
        return None
    found = [sentence for check in asked if (sentence := check.find(run))]
    return Section(id="checks", title="Worth a look", context={"found": found, "asked": [c.asks for c in asked]})


def lost_tasks(run: Run) -> str | None:
    worse = [task.name for task in by_task(run.summary) if task.verdict == "loss"]
    return f"Worse than before, beyond the interval: {', '.join(worse)}." if worse else None


def dropped(run: Run) -> str | None:
    drawn, lost = run.rollouts_by_step(), run.column("rollouts/dropped")
    known = np.isfinite(drawn) & np.isfinite(lost)
    share = lost[known].sum() / drawn[known].sum() if known.any() and drawn[known].sum() else 0.0
    if share <= 0.01:
        return None
    return f"{words.percent(share)} of the rollouts were dropped; the browser below shows why (outcome: dropped)."


def cut(run: Run) -> str | None:
    share = lately(run.column("rollouts/truncated"))
    if not share > 0.1:
        return None
    return f"Lately {words.percent(share)} of the completions were cut at the token limit (rollout.max_tokens)."


def no_variance(run: Run) -> str | None:
    """Two completions are alike half of the time at least; only estimators that look at siblings alone lose by it."""
    share, size = lately(run.column("groups/zero_variance")), run.setting("rollout.group_size")
    alone = run.setting("advantage.kind") in ("grpo", "rloo") and isinstance(size, int)
    if not share > (0.5 + 2.0**-size if alone else 0.95):
        return None
    return (
        f"Lately {words.percent(share)} of the prompts got the same reward for all their completions: "
        "too easy or too hard, they teach nothing against their own mean."
    )


def collapse(run: Run) -> str | None:
    values = run.column("policy/entropy")
    first, last = early(values), lately(values)
    if not (first > 0 and last < 0.1 * first):
        return None
    return f"Entropy fell from {words.number(first)} to {words.number(last)} nats a token: little is left to explore."


def clipped(run: Run) -> str | None:
    share = lately(run.column("policy/clip_fraction"))
    return f"Lately the clip stopped the gradient of {words.percent(share)} of the tokens." if share > 0.2 else None


def scaled_down(run: Run) -> str | None:
    limit, norms = run.setting("update.max_grad_norm"), run.column("policy/grad_norm")
    norms = norms[np.isfinite(norms)]
    if not isinstance(limit, int | float) or not len(norms) or (share := float((norms > limit).mean())) <= 0.5:
        return None
    return (
        f"The gradient was scaled down in {words.percent(share, 0)} of the updates (update.max_grad_norm "
        f"{words.number(limit)}): the limit, not the learning rate, sets the size of the steps."
    )


def no_progress(run: Run) -> str | None:
    values = run.column("reward/mean")
    if len(values) < 20:
        return None
    first, last = early(values), lately(values)
    return (
        f"The reward has not risen: {words.number(first)} early, {words.number(last)} lately."
        if last <= first
        else None
    )


def gaps(run: Run) -> str | None:
    missing = run.steps_done - len(run.steps)
    return f"{words.plural(missing, 'update')} left no row in metrics.jsonl." if missing > 0 else None


def broken(run: Run) -> str | None:
    bad = int((~np.isfinite(run.column("loss"))).sum())
    return f"The loss of {words.plural(bad, 'update')} is not a number." if bad else None


def early(values: Floats) -> float:
    """Mean of the first fifth; nan where nothing was recorded."""
    return _mean(values[: max(1, len(values) // LATE)])


def lately(values: Floats) -> float:
    """Mean of the last fifth; nan where nothing was recorded."""
    return _mean(values[-max(1, len(values) // LATE) :])


def _mean(values: Floats) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")


CHECKS = (
    Check(asks="the reward rises", needs=("reward/mean",), find=no_progress),
    Check(asks="no task got worse", needs=("reward/mean",), find=lost_tasks),
    Check(asks="at most 1 % of the rollouts dropped", needs=("rollouts/dropped", "rollouts/total"), find=dropped),
    Check(asks="at most 10 % of the completions cut", needs=("rollouts/truncated",), find=cut),
    Check(asks="enough prompts whose completions differ", needs=("groups/zero_variance",), find=no_variance),
    Check(asks="entropy above a tenth of its start", needs=("policy/entropy",), find=collapse),
    Check(asks="at most 20 % of the tokens clipped", needs=("policy/clip_fraction",), find=clipped),
    Check(asks="most gradients within their limit", needs=("policy/grad_norm",), find=scaled_down),
    Check(asks="every loss a number", needs=(), find=broken),
    Check(asks="every update recorded", needs=(), find=gaps),
)
