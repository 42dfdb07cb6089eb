"""What an evaluation says, as plain JSON: rates by task with intervals, and gains paired by prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from groupwise.config import EvalConfig
from groupwise.statistics import (
    Interval,
    difference_interval,
    majority_at_k,
    mean_interval,
    pass_at_k,
    rate_interval,
)
from groupwise.tasks.answers import voted_answer
from groupwise.types import Floats, Rollout

CORRECT = 1 - 1e-6  # scorers compute with floats

Outcome = tuple[bool, str]  # whether a completion is right, and what it votes for
Values = dict[str, dict[str, float]]  # task -> prompt id -> value
Result = dict[str, Any]


def summarise(rollouts: Sequence[Rollout], config: EvalConfig) -> Result:
    """pass@k and maj@k over prompts, by task and as the mean of the tasks, each with a 95 % interval; the mean reward.

    Dropped rollouts are left out and counted; a prompt with fewer than k others does not count for pass@k and maj@k,
    nor a task without such prompts. Where nothing was measured a value is None.
    """
    prompts: dict[str, dict[str, list[Outcome]]] = {}
    rewards: dict[str, dict[str, list[float]]] = {}
    domains: dict[str, set[str]] = {}
    for rollout in rollouts:
        domains.setdefault(rollout.prompt.task, set()).add(rollout.prompt.domain)
        if rollout.dropped is None:
            outcome = rollout.reward >= CORRECT, voted_answer(rollout.completion.text)
            prompts.setdefault(rollout.prompt.task, {}).setdefault(rollout.prompt.id, []).append(outcome)
            rewards.setdefault(rollout.prompt.task, {}).setdefault(rollout.prompt.id, []).append(rollout.reward)
    measured = {
        f"{name}@{k}": _values(prompts, measure, k)
        for name, measure in (("pass", _pass), ("maj", _majority))
        for k in sizes(config.samples)
        if k > 1 or name == "pass"  # a vote of one is pass@1
    }
    rates: Result = {}
    for name, values in measured.items():
        rates |= _described(name, values, rate_interval)
    by_task = {task: float(np.mean([np.mean(one) for one in found.values()])) for task, found in rewards.items()}
    return {
        **rates,
        "reward": _mean(list(by_task.values())),
        "by_task_reward": by_task,
        "by_task": rates["by_task_pass@1"],
        "by_task_interval": rates["by_task_pass@1_interval"],
        "by_task_prompts": {task: len(found) for task, found in prompts.items()},
        "domains": {task: found.pop() if len(found) == 1 else "several" for task, found in domains.items()},
        "prompts": sum(map(len, prompts.values())),
        "samples": config.samples,
        "seed": config.seed,
        "temperature": config.temperature,
        "length_mean": _mean([len(r.completion.token_ids) for r in rollouts]),
        "truncated": _mean([r.completion.finish_reason == "length" for r in rollouts]),
        "dropped_rollouts": sum(r.dropped is not None for r in rollouts),
        "per_prompt": measured,
    }


def compare(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> Result | None:
    """Gains from one result of `summarise` to another, paired by prompt, by task and as the mean of the tasks.

    Only prompts and tasks that both have count; None where there was no evaluation.
    """
    if before is None or after is None:
        return None
    gains: Result = {}
    for name, old in before["per_prompt"].items():
        new = after["per_prompt"].get(name, {})
        pairs = {
            task: {p: new[task][p] - old[task][p] for p in old[task] if p in new[task]} for task in old if task in new
        }
        gains |= _described(name, pairs, difference_interval)
    return {
        **gains,
        "interval": gains["pass@1_interval"],
        "by_task": gains["by_task_pass@1"],
        "by_task_interval": gains["by_task_pass@1_interval"],
    }


def held_out_metrics(result: Mapping[str, Any] | None) -> dict[str, float]:
    """The columns of a metrics row for an evaluation in the middle of a run."""
    if result is None or result["pass@1"] is None:
        return {}
    tasks = {f"eval/{task}/pass@1": rate for task, rate in result["by_task"].items()}
    return {"eval/pass@1": result["pass@1"], "eval/reward": result["reward"], **tasks}


def is_graded(result: Mapping[str, Any]) -> bool:
    """Whether the judging reward says more than right and wrong, so that its mean is not pass@1."""
    return result["reward"] is not None and abs(result["reward"] - result["pass@1"]) > 1 - CORRECT


def sizes(samples: int) -> list[int]:
    """The k of pass@k and maj@k: the powers of two up to `samples`, and `samples`."""
    return sorted({*(2**i for i in range(samples.bit_length())), samples})


def _pass(outcomes: Sequence[Outcome], k: int) -> float:
    return pass_at_k(sum(right for right, _ in outcomes), len(outcomes), k)


def _majority(outcomes: Sequence[Outcome], k: int) -> float:
    return majority_at_k([answer for _, answer in outcomes], np.array([float(right) for right, _ in outcomes]), k)


def _values(
    prompts: Mapping[str, Mapping[str, Sequence[Outcome]]], measure: Callable[[Sequence[Outcome], int], float], k: int
) -> Values:
    return {task: {p: measure(o, k) for p, o in found.items() if len(o) >= k} for task, found in prompts.items()}


def _described(name: str, values: Values, interval: Callable[[Floats], Interval]) -> Result:
    """Means over prompts and their intervals, under the names of the result; tasks without a value are left out."""
    arrays = {task: np.array(list(found.values())) for task, found in values.items() if found}
    means = {task: float(array.mean()) for task, array in arrays.items()}
    intervals = {task: interval(array) for task, array in arrays.items()}
    whole = mean_interval(np.array(list(means.values())), list(intervals.values())) if means else None
    return {
        name: _mean(list(means.values())),
        f"{name}_interval": list(whole) if whole else None,
        f"by_task_{name}": means,
        f"by_task_{name}_interval": {task: list(ends) for task, ends in intervals.items()},
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
