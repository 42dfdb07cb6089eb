"""A Trainer in this process: no workers, no command line, nothing that takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from groupwise.config import Recipe
from groupwise.stages.grpo import Trainer
from groupwise.types import Prompt, Rollout

from .runs import recipe

Mark = Callable[[Prompt, str], "float | str"]  # a reward, or why there is none


class Marker:
    """Stands in for a Scorer: one reward named `marks`; what `mark` says in words is why the rollout is dropped."""

    def __init__(self, mark: Mark) -> None:
        self.mark = mark
        self.seen: list[Rollout] = []

    def ready(self) -> None: ...

    def close(self) -> None: ...

    def score(self, rollouts: list[Rollout]) -> None:
        self.seen += rollouts
        for rollout in rollouts:
            marks = self.mark(rollout.prompt, rollout.completion.text)
            if isinstance(marks, str):
                rollout.dropped = marks
            else:
                rollout.rewards, rollout.reward = {"marks": marks}, marks


def train_inside(run: Path, model: Path, mark: Mark, **sections: Any) -> Trainer:
    """A Trainer of RECIPE with other keys; its scorer is a Marker."""
    run.mkdir(exist_ok=True)
    made = Recipe.model_validate(recipe(model, **sections))
    with patch("groupwise.stages.parts.Scorer", lambda *_, **__: Marker(mark)):
        return Trainer(made, run_dir=run)
