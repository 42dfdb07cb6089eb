"""A pool of rollouts from one policy: 32 completions of each prompt, scored, with their gradients projected.

The gradient of log pi(o|x), summed over o's tokens, is projected by random signs: every parameter is added to one of D
buckets, drawn at random, with a random sign. Inner products, and so traces of covariances, are kept on average (feature
hashing, Weinberger et al., arXiv 0902.2206).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from groupwise.config import Recipe
from groupwise.learner.batch import micro_batches
from groupwise.learner.forward import Forward
from groupwise.learner.policy import load_policy, set_threads
from groupwise.rollout.encode import encode
from groupwise.rollout.local import LocalEngine
from groupwise.stages.comparison import Comparison
from groupwise.stages.embedding import build_embeddings
from groupwise.tasks.load import load_task
from groupwise.tasks.scoring import Scorer
from groupwise.types import Completion, Ints, Prompt, Rollout, Sampling

CPU = torch.device("cpu")
MEMORY = 2**32  # bytes; nothing of this size is near it
ROW_BLOCK = 512  # completions generated at once


class Projection:
    """[parameters] -> [width], the same for every policy of this shape. Twelve bytes a parameter are kept."""

    def __init__(self, model: nn.Module, width: int, seed: int) -> None:
        self._model, self._width = model, width
        self._parts = []
        for number, weights in enumerate(model.parameters()):
            generator = torch.Generator().manual_seed(1_000_003 * seed + number)
            bucket = torch.randint(width, (weights.numel(),), generator=generator)
            sign = torch.randint(2, (weights.numel(),), generator=generator).float() * 2 - 1
            self._parts.append((bucket, sign))

    def __call__(self) -> torch.Tensor:
        """[width] of the gradients that the model's parameters hold."""
        out = torch.zeros(self._width)
        for weights, (bucket, sign) in zip(self._model.parameters(), self._parts, strict=True):
            if weights.grad is not None:
                out.index_add_(0, bucket, weights.grad.flatten() * sign)
        return out


def pool_prompts(recipe: Recipe, count: int, seed: int) -> list[Prompt]:
    """`count` different training prompts, equally many of each task."""
    each, rest = divmod(count, len(recipe.tasks))
    if rest or not each:
        raise SystemExit(f"--prompts {count} is not a multiple of the recipe's {len(recipe.tasks)} tasks")
    found: dict[str, Prompt] = {}
    for task in recipe.tasks:
        stream, wanted = load_task(task).stream(seed, held_out=False), len(found) + each
        for prompt in islice(stream, 1000 * each):
            found.setdefault(prompt.id, prompt)
            if len(found) == wanted:
                break
        else:
            raise SystemExit(f"task {task.name} has fewer than {each} different prompts")
    return list(found.values())


def groups_of(recipe: Recipe, model: Any, prompts: Sequence[Prompt]) -> Ints:
    """[P, L - 1] ids of each prompt's domain and learned clusters, by the initial policy's embeddings."""
    clustered = recipe.model_copy(update={"grouping": recipe.grouping.model_copy(update={"kind": "clusters"})})
    comparison = Comparison(clustered, build_embeddings(clustered, model), MEMORY)
    nothing = Completion(token_ids=(), logprobs=(), text="", finish_reason="stop", policy_version=0)
    rollouts = [Rollout(prompt=prompt, completion=nothing) for prompt in comparison.embed(prompts)]
    return comparison.group(rollouts).levels[:, :-1]


def make_pool(recipe: Recipe, model: str, path: Path, *, prompts: int, samples: int, width: int, seed: int) -> None:
    """Sample, score and differentiate; leaves the pool as `path` (.npz)."""
    set_threads(recipe.threads)
    policy = load_policy(model, CPU)
    drawn = encode(pool_prompts(recipe, prompts, seed), policy.tokenizer)
    first = policy if model == recipe.model else load_policy(recipe.model, CPU)
    groups = groups_of(recipe, first.model, drawn)
    sampling = Sampling(max_tokens=recipe.rollout.max_tokens, temperature=recipe.rollout.temperature, seed=seed)
    engine = LocalEngine(policy.model, policy.tokenizer)
    rows = [prompt for prompt in drawn for _ in range(samples)]
    with Scorer(recipe.tasks, recipe.rewards) as scorer:
        rollouts = []
        for start in range(0, len(rows), ROW_BLOCK):
            part = rows[start : start + ROW_BLOCK]
            said = engine.generate(part, range(start, start + len(part)), sampling)
            rollouts += [Rollout(prompt=p, completion=c) for p, c in zip(part, said, strict=True)]
        scorer.score(rollouts)
    if failed := sum(r.dropped is not None for r in rollouts):
        raise SystemExit(f"{failed} rollouts could not be scored; the pool must be whole")
    tasks = [task.name for task in recipe.tasks]
    shape = (prompts, samples)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp.npz")
    np.savez_compressed(
        beside,
        rewards=np.array([r.reward for r in rollouts]).reshape(shape),
        lengths=np.array([len(r.completion.token_ids) for r in rollouts]).reshape(shape),
        # 16 bits are enough, and the pool can be kept beside the results
        gradients=project(policy.model, rollouts, recipe.rollout.temperature, width, seed)
        .reshape(*shape, width)
        .astype(np.float16),
        families=np.array([tasks.index(prompt.task) for prompt in drawn]),
        groups=groups,
    )
    beside.replace(path)


def project(model: nn.Module, rollouts: Sequence[Rollout], temperature: float, width: int, seed: int) -> np.ndarray:
    """[N, width] float32: each rollout's gradient of the sum of its tokens' log-probs, in float32."""
    projection, forward = Projection(model, width, seed), Forward(model, temperature, torch.float32)
    out = np.zeros((len(rollouts), width), np.float32)
    for row, rollout in enumerate(rollouts):
        model.zero_grad(set_to_none=True)
        batch = micro_batches([rollout], 1, CPU)[0]
        forward.completions(batch)[0].sum().backward()
        out[row] = projection().numpy()
    return out
