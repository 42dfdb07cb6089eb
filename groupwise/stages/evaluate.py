"""Evaluation on held-out prompts: pass@1 and pass@k by task, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from groupwise.config import EvalConfig, Recipe, RewardConfig
from groupwise.learner import policy
from groupwise.rollout.encode import encode
from groupwise.rollout.local import LocalEngine
from groupwise.stages.progress import Progress
from groupwise.statistics import mean_interval, pass_at_k, rate_interval, standard_error
from groupwise.tasks.gym import load_task
from groupwise.tasks.mixture import held_out_prompts
from groupwise.tasks.scoring import Scorer, all_failed
from groupwise.types import Engine, Floats, Rollout, Sampling, UserError

CORRECT = 1 - 1e-6  # scorers compute with floats
CHUNK = 512  # prompts between two signs of progress
ACCURACY = RewardConfig(name="accuracy", deadline=10.0)


class Evaluator:
    """The same held-out prompts and the same sampling seeds each time it is asked."""

    def __init__(self, recipe: Recipe, tokenizer: Any, scorer: Scorer) -> None:
        self._config, self._scorer = recipe.eval, scorer
        tasks = [load_task(task) for task in recipe.tasks]
        self._prompts = encode(held_out_prompts(tasks, recipe.eval.prompts, recipe.eval.seed), tokenizer)
        self._sampling = Sampling(
            max_tokens=recipe.rollout.max_tokens,
            temperature=recipe.eval.temperature,
            stop=tuple(recipe.rollout.stop),
            seed=recipe.eval.seed,
        )

    def run(self, engine: Engine, label: str) -> dict[str, Any]:
        """Complete and score every prompt; the result is plain JSON (see `summarise`)."""
        samples = self._config.samples
        rollouts: list[Rollout] = []
        with Progress(len(self._prompts) * samples, unit=label) as progress:
            for start in range(0, len(self._prompts), CHUNK):
                prompts = [p for p in self._prompts[start : start + CHUNK] for _ in range(samples)]
                keys = range(len(rollouts), len(rollouts) + len(prompts))
                completions = engine.generate(prompts, keys, self._sampling)
                part = [Rollout(prompt=p, completion=c) for p, c in zip(prompts, completions, strict=True)]
                self._scorer.score(part)
                rollouts += part
                progress.show(len(rollouts), accuracy=_accuracy(rollouts))
        if all(r.dropped for r in rollouts):
            raise UserError(all_failed(rollouts, "the evaluation"))
        return summarise(rollouts, self._config)


def summarise(rollouts: Sequence[Rollout], config: EvalConfig) -> dict[str, Any]:
    """Rates over prompts, by task and as the mean of the tasks; dropped rollouts are left out and counted."""
    outcomes: dict[str, dict[str, list[bool]]] = {}
    for rollout in rollouts:
        prompts = outcomes.setdefault(rollout.prompt.task, {}).setdefault(rollout.prompt.id, [])
        if rollout.dropped is None:
            prompts.append(rollout.reward >= CORRECT)
    outcomes = {task: prompts for task, prompts in outcomes.items() if any(prompts.values())}
    values = {task: _rates(prompts) for task, prompts in outcomes.items()}
    means = np.array([rates.mean() for rates in values.values()])
    errors = np.array([standard_error(rates) for rates in values.values()])
    lengths = [len(r.completion.token_ids) for r in rollouts]
    result: dict[str, Any] = {
        "pass@1": float(means.mean()),
        "pass@1_interval": [min(1.0, max(0.0, end)) for end in mean_interval(means, errors)],
        "by_task": {task: float(rates.mean()) for task, rates in values.items()},
        "by_task_interval": {task: list(rate_interval(rates)) for task, rates in values.items()},
        "domains": {r.prompt.task: r.prompt.domain for r in rollouts},
        "prompts": sum(len(prompts) for prompts in outcomes.values()),
        "samples": config.samples,
        "seed": config.seed,
        "temperature": config.temperature,
        "length_mean": float(np.mean(lengths)),
        "truncated": float(np.mean([r.completion.finish_reason == "length" for r in rollouts])),
        "dropped_rollouts": sum(r.dropped is not None for r in rollouts),
        "per_prompt": {
            task: {p: sum(o) / len(o) for p, o in prompts.items() if o} for task, prompts in outcomes.items()
        },
    }
    for k in _powers(config.samples):
        rates = {
            task: [pass_at_k(sum(o), len(o), k) for o in prompts.values() if len(o) >= k]
            for task, prompts in outcomes.items()
        }
        by_task = {task: float(np.mean(values)) for task, values in rates.items() if values}
        result[f"pass@{k}"] = float(np.mean(list(by_task.values()))) if by_task else None
        result[f"by_task_pass@{k}"] = by_task
    return result


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Gain in pass@1, paired by prompt, with intervals, by task and as the mean of the tasks."""
    gains: dict[str, Floats] = {}
    for task, old in before["per_prompt"].items():
        new = after["per_prompt"].get(task, {})
        gains[task] = np.array([new[p] - old[p] for p in old if p in new])
    means = np.array([g.mean() for g in gains.values()])
    errors = np.array([standard_error(g) for g in gains.values()])
    return {
        "pass@1": float(means.mean()),
        "interval": list(mean_interval(means, errors)),
        "by_task": {task: float(g.mean()) for task, g in gains.items()},
        "by_task_interval": {
            task: list(mean_interval(means[i : i + 1], errors[i : i + 1])) for i, task in enumerate(gains)
        },
    }


def evaluate_command(model: str, recipe: Recipe, run_dir: Path | None) -> dict[str, Any]:
    """`groupwise eval`: load `model` and evaluate it on the recipe's held-out prompts."""
    policy.set_threads(recipe.threads)
    device = policy.pick_device(recipe.device)
    with Scorer(recipe.tasks, [ACCURACY]) as scorer:
        network, tokenizer, _ = policy.load_policy(model, device)
        engine = LocalEngine(network, tokenizer, compute_dtype=policy.compute_dtype(recipe.update.dtype, device))
        result = Evaluator(recipe, tokenizer, scorer).run(engine, "evaluate")
    result.pop("per_prompt")
    return {"model": model, **result}


def table(result: Mapping[str, Any]) -> Table:
    """The result for a terminal."""
    powers = [k for k in _powers(int(result["samples"])) if k > 1]
    out = Table(
        title=f"{result['model']}: {result['prompts']} held-out prompts, seed {result['seed']}", box=SIMPLE_HEAD
    )
    for heading in ("task", "domain"):
        out.add_column(heading)
    for heading in ("pass@1", "95 % interval", *(f"pass@{k}" for k in powers)):
        out.add_column(heading, justify="right")
    for task, rate in result["by_task"].items():
        more = [_percent(result[f"by_task_pass@{k}"].get(task)) for k in powers]
        out.add_row(task, result["domains"][task], f"{rate:.1%}", _span(result["by_task_interval"][task]), *more)
    out.add_section()
    more = [_percent(result[f"pass@{k}"]) for k in powers]
    out.add_row("all", "", f"{result['pass@1']:.1%}", _span(result["pass@1_interval"]), *more, style="bold")
    return out


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1%}"


def _span(interval: Sequence[float]) -> str:
    return f"{interval[0]:.1%} to {interval[1]:.1%}"


def _rates(prompts: Mapping[str, list[bool]]) -> Floats:
    """[P] share of right completions of each prompt that has any."""
    return np.array([sum(o) / len(o) for o in prompts.values() if o])


def _accuracy(rollouts: Sequence[Rollout]) -> float:
    counted = [r for r in rollouts if r.dropped is None]
    return sum(r.reward >= CORRECT for r in counted) / max(1, len(counted))


def _powers(samples: int) -> list[int]:
    return [k for k in (1, 2, 4, 8, 16, 32, 64, 128, 256) if k <= samples]
