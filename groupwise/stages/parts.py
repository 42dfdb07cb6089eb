"""What a GRPO run is made of, how it is saved and restored, and how its model is delivered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from groupwise.config import Recipe
from groupwise.learner import policy
from groupwise.learner.update import Learner
from groupwise.rollout.local import LocalEngine
from groupwise.run.checkpoint import load_checkpoint, save_checkpoint
from groupwise.run.disk import writing
from groupwise.run.folder import CHECKPOINTS, MODEL, ROLLOUTS
from groupwise.run.rollouts import forget_after
from groupwise.stages.collect import Collector
from groupwise.stages.evaluate import Evaluator
from groupwise.stages.record import Totals
from groupwise.tasks.gym import load_task
from groupwise.tasks.mixture import Mixture
from groupwise.tasks.scoring import Scorer


class Parts:
    """The parts of a run, built from its recipe. All that must survive a crash is in the checkpoint."""

    def __init__(self, recipe: Recipe, run_dir: Path, scorer: Scorer, judge: Scorer) -> None:
        policy.set_threads(recipe.threads)
        device = policy.pick_device(recipe.device)
        dtype = policy.compute_dtype(recipe.update.dtype, device)
        self.recipe, self.run_dir, self.steps_done = recipe, run_dir, 0
        self.policy = policy.load_policy(recipe.model, device)
        self.engine = LocalEngine(self.policy.model, self.policy.tokenizer, compute_dtype=dtype)
        self.learner = Learner(
            self.policy.model,
            loss=recipe.loss,
            update=recipe.update,
            steps=recipe.steps,
            temperature=recipe.rollout.temperature,
            max_tokens=recipe.rollout.max_tokens,
            mask_cut=recipe.rollout.overlong == "mask",
            device=device,
            dtype=dtype,
        )
        mixture = Mixture([load_task(t) for t in recipe.tasks], [t.weight for t in recipe.tasks], recipe.seed)
        self.collector = Collector(
            recipe.rollout,
            recipe.seed,
            mixture,
            self.policy.tokenizer,
            self.engine,
            scorer,
            policy.context_length(self.policy.model),
        )
        self.evaluator = Evaluator(recipe, self.policy.tokenizer, judge)
        self.totals = Totals()
        self.before: dict[str, Any] | None = None  # the evaluation before the first update

    def evaluate(self, label: str) -> dict[str, Any]:
        """Held-out pass@1, the same prompts and sampling seeds each time."""
        return self.evaluator.run(self.engine, label)

    def deliver(self) -> dict[str, Any]:
        """Save the model in the type that it was loaded from, and evaluate it as saved, rounding included."""
        with torch.no_grad():
            for weights in self.policy.model.parameters():
                weights.copy_(weights.to(self.policy.dtype))
        self.engine.take_weights(self.learner.weights(), self.learner.version)
        with writing(self.run_dir / MODEL):
            policy.save_policy(self.policy, self.run_dir / MODEL)
        return self.evaluate("after")

    def checkpoint(self) -> None:
        """Save all that the run needs to go on from here; only between updates."""
        state = {
            "learner": self.learner.state(),
            "collector": self.collector.state(),
            "totals": self.totals.state(),
            "before": self.before,
        }
        save_checkpoint(self.run_dir / CHECKPOINTS, self.steps_done, state, self.recipe.checkpoint.keep)

    def restore(self) -> None:
        """Continue from the newest checkpoint, if there is one; whatever was recorded after it is forgotten."""
        if found := load_checkpoint(self.run_dir / CHECKPOINTS):
            self.steps_done, state = found
            self.learner.load_state(state["learner"])
            self.engine.take_weights(self.learner.weights(), self.learner.version)
            self.collector.load_state(state["collector"])
            self.totals.load_state(state["totals"])
            self.before = state["before"]
        forget_after(self.run_dir / ROLLOUTS, self.steps_done)
