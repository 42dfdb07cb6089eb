"""Evaluation on held-out prompts: the same prompts and the same sampling seeds for every model and at every time."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from groupwise.config import Recipe, RewardConfig
from groupwise.learner import policy
from groupwise.rollout.encode import encode
from groupwise.run.doing import doing
from groupwise.run.world import World
from groupwise.stages.engines import local_engine
from groupwise.stages.progress import Progress
from groupwise.stages.summarise import CORRECT, Result, compare, summarise
from groupwise.tasks.load import load_task
from groupwise.tasks.mixture import held_out_prompts
from groupwise.tasks.scoring import Scorer, all_failed
from groupwise.types import Engine, Prompt, Rollout, Sampling, Task, UserError

_log = logging.getLogger(__name__)

CHUNK = 512  # completions between two signs of progress


def judge_rewards(recipe: Recipe) -> list[RewardConfig]:
    """What an evaluation scores with: the recipe's reward named `accuracy`, else its first; full (1) means correct."""
    named = [reward for reward in recipe.rewards if reward.name == "accuracy"]
    return [reward.model_copy(update={"weight": 1.0, "requires": None}) for reward in (named or recipe.rewards)[:1]]


class Evaluator:
    """The same held-out prompts and the same sampling seeds each time it is asked.

    `context`: most tokens that prompt and completion may have together; prompts without room are left out, and told.
    """

    def __init__(
        self,
        recipe: Recipe,
        tokenizer: Any,
        scorer: Scorer,
        tasks: Sequence[Task] | None = None,
        world: World | None = None,
        context: int | None = None,
    ) -> None:
        self._config, self._scorer, self._world = recipe.eval, scorer, world or World()
        tasks = [load_task(task) for task in recipe.tasks] if tasks is None else tasks
        prompts = encode(held_out_prompts(tasks, recipe.eval.prompts, recipe.eval.seed), tokenizer)
        if recipe.eval.prompts and tasks and not prompts:
            _log.warning("no task has held-out prompts, so nothing is evaluated; see data.held_out")
        self._prompts = prompts if context is None else _fitting(prompts, recipe.rollout.max_tokens, context)
        self._sampling = Sampling(
            max_tokens=recipe.rollout.max_tokens,
            temperature=recipe.eval.temperature,
            stop=tuple(recipe.rollout.stop),
            seed=recipe.eval.seed,
        )

    def run(self, engine: Engine, label: str) -> Result | None:
        """Complete and score every prompt; the result is plain JSON (see `summarise`), None where eval.prompts is 0."""
        if not self._config.prompts:
            return None
        samples = self._config.samples
        size = max(1, CHUNK // samples)
        rollouts: list[Rollout] = []
        with Progress(len(self._prompts) * samples, unit=label) as progress:
            for start in range(0, len(self._prompts), size):
                prompts = [p for p in self._prompts[start : start + size] for _ in range(samples)]
                mine = self._world.share(list(enumerate(prompts, len(rollouts))))
                with self._world.together():
                    completions = engine.generate([p for _, p in mine], [key for key, _ in mine], self._sampling)
                    part = [Rollout(prompt=p, completion=c) for (_, p), c in zip(mine, completions, strict=True)]
                    doing("score")
                    self._scorer.score(part)
                rollouts += self._world.gather(part)
                progress.show(len(rollouts), accuracy=_accuracy(rollouts))
        if rollouts and all(r.dropped for r in rollouts):
            raise UserError(all_failed(rollouts, "the evaluation"))
        return summarise(rollouts, self._config)


def evaluate_command(models: Sequence[str], recipe: Recipe) -> Result:
    """`groupwise eval`: each model on the recipe's held-out prompts, and the differences from the first.

    The result of one model is that model's; that of several is {"models": [...], "differences": [...]}.
    """
    for model in models:
        policy.resolve_model(model)  # a misspelt name is told before the first evaluation, which may take long
    with Scorer(recipe.tasks, judge_rewards(recipe)) as scorer:
        results = [{"model": model, **(_evaluate(model, recipe, scorer) or {})} for model in models]
    first, *others = results
    differences = [{"model": r["model"], "against": first["model"], **(compare(first, r) or {})} for r in others]
    for result in results:
        result.pop("per_prompt", None)
    return {"models": results, "differences": differences} if others else first


def _evaluate(model: str, recipe: Recipe, scorer: Scorer) -> Result | None:
    """Load, evaluate and let go of a model: there need not be room for two."""
    policy.set_threads(recipe.threads)
    device = policy.pick_device(recipe.device)
    loaded = policy.load_policy(model, device)
    engine = local_engine(recipe, loaded, policy.compute_dtype(recipe.update.dtype, device), learning=False)
    context = policy.context_length(loaded.model)
    return Evaluator(recipe, loaded.tokenizer, scorer, context=context).run(engine, "evaluate")


def _fitting(prompts: Sequence[Prompt], max_tokens: int, context: int) -> list[Prompt]:
    """The prompts that leave room for a completion; raises UserError where none does."""
    fitting = [prompt for prompt in prompts if len(prompt.token_ids) + max_tokens <= context]
    if len(fitting) < len(prompts):
        told = (
            f"{len(prompts) - len(fitting)} of {len(prompts)} held-out prompts are longer than the "
            f"{context - max_tokens} tokens that rollout.max_tokens {max_tokens} leaves of the model's context"
        )
        if not fitting:
            raise UserError(told)
        _log.warning("%s: they are left out", told)
    return fitting


def _accuracy(rollouts: Sequence[Rollout]) -> float:
    counted = [r for r in rollouts if r.dropped is None]
    return sum(r.reward >= CORRECT for r in counted) / max(1, len(counted))
