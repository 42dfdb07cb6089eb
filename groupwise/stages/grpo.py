"""GRPO: draw prompts, generate, score, group, estimate advantages, update the policy, record, evaluate, checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from groupwise.advantage import estimate
from groupwise.config import Recipe
from groupwise.grouping import by_prompt
from groupwise.learner import policy
from groupwise.learner.update import Learner
from groupwise.report import write_report
from groupwise.rollout.local import LocalEngine
from groupwise.run.checkpoint import load_checkpoint, save_checkpoint
from groupwise.run.disk import writing
from groupwise.run.folder import CHECKPOINTS, METRICS, MODEL, REPORT, ROLLOUTS, SUMMARY
from groupwise.run.metrics import MetricsWriter
from groupwise.run.rollouts import forget_after, write_rollouts
from groupwise.stages.clock import Clock
from groupwise.stages.collect import Collected, Collector, add_reward
from groupwise.stages.evaluate import ACCURACY, Evaluator, compare
from groupwise.stages.finish import finish
from groupwise.stages.interrupt import Interrupt
from groupwise.stages.progress import Progress
from groupwise.stages.record import Totals, metrics_row
from groupwise.tasks.gym import load_task
from groupwise.tasks.mixture import Mixture
from groupwise.tasks.scoring import Scorer


class Trainer:
    """The parts of a run, and one update of it. Everything that must survive a crash is in `state`."""

    def __init__(self, recipe: Recipe, run_dir: Path, scorer: Scorer, judge: Scorer) -> None:
        policy.set_threads(recipe.threads)
        device = policy.pick_device(recipe.device)
        dtype = policy.compute_dtype(recipe.update.dtype, device)
        self.recipe, self.run_dir, self.steps_done = recipe, run_dir, 0
        self.policy = policy.load_policy(recipe.model, device)
        self.policy.model.eval()  # type: ignore[no-untyped-call]  # no dropout: who learns is who generated
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

    def step(self) -> dict[str, float]:
        """One update of the policy; returns its metrics."""
        clock, collected, start = Clock(), Collected(), self.collector.state()
        try:
            while count := self.collector.missing(collected):
                with clock("draw"):
                    prompts = self.collector.draw(count)
                with clock("generate"):
                    rollouts = self.collector.generate(prompts)
                with clock("score"):
                    self.collector.score(rollouts)
                    self.collector.sort(rollouts, collected, where=f"update {self.steps_done + 1}")
        except Exception:
            self.collector.load_state(start)  # nothing has been learned yet: whoever resumes repeats this update, whole
            self.checkpoint()
            raise
        with clock("group"):
            groups = by_prompt([r.prompt.id for r in collected.kept])
            for rollout, group in zip(collected.kept, groups.prompt, strict=True):
                rollout.group = int(group)
        with clock("estimate"):
            self._estimate(collected, groups.levels)
        with clock("update"):
            learned = self.learner.update(collected.kept)
            self.engine.take_weights(self.learner.weights(), self.learner.version)
        self.steps_done += 1
        with clock("record"):
            if self.recipe.run.rollouts:
                write_rollouts(self.run_dir / ROLLOUTS, self.steps_done, collected.all)
        self.totals.add(collected, clock)
        row = metrics_row(collected, groups, learned, self.totals, clock)
        return row | {"prompts/skipped": self.collector.skipped}

    def _estimate(self, collected: Collected, levels: Any) -> None:
        kept, loss, advantage = collected.kept, self.recipe.loss, self.recipe.advantage
        if not kept:
            return
        if loss.beta > 0 and loss.kl == "k1":
            for rollout, divergence in zip(kept, self.learner.reference_kl(kept), strict=True):
                add_reward(rollout, "kl", -loss.beta * divergence)
        values = estimate(advantage.kind, [r.reward for r in kept], levels, advantage.scale)
        for rollout, value in zip(kept, values, strict=True):
            rollout.advantage = float(value)

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


def train(recipe: Recipe, run_dir: Path, resume: bool = False) -> None:
    """Run the recipe in `run_dir`, from its newest checkpoint with `resume`; ends with model, summary and report."""
    if resume and (run_dir / SUMMARY).exists():
        print(f"The run in {run_dir} is finished.")
        if recipe.run.report and not (run_dir / REPORT).exists():  # it was killed just before this
            write_report(run_dir)
        return
    log = run_dir / "rewards.log"
    with writing(log):
        log.touch()
    with (
        Scorer(recipe.tasks, recipe.rewards, log=log) as scorer,
        Scorer(recipe.tasks, [ACCURACY], log=log) as judge,
    ):
        trainer = Trainer(recipe, run_dir, scorer, judge)
        scorer.ready()  # a reward that cannot be loaded is told before the evaluation, which may take long
        if resume:
            trainer.restore()
        if trainer.before is None:
            trainer.before = trainer.evaluate("before")
            trainer.checkpoint()
        with Interrupt() as interrupt:
            loop(trainer, interrupt)
            trainer.checkpoint()
        if interrupt.asked:
            print(f"Saved after update {trainer.steps_done}; groupwise train --resume {run_dir} continues.")
            raise KeyboardInterrupt
        after = trainer.deliver()
    finish(trainer.recipe, run_dir, trainer.totals, trainer.before, after, compare(trainer.before, after))


def loop(trainer: Trainer, interrupt: Interrupt) -> None:
    """Update, evaluate, record and checkpoint until the recipe's steps are done or the user interrupts."""
    recipe = trainer.recipe
    with (
        MetricsWriter(trainer.run_dir / METRICS, recipe.log, last_step=trainer.steps_done) as writer,
        Progress(recipe.steps, trainer.steps_done) as progress,
    ):
        while trainer.steps_done < recipe.steps and not interrupt.asked:
            row = trainer.step()
            progress.show(
                trainer.steps_done,
                reward=row["reward/mean"],
                accuracy=row["accuracy"],
                tokens_per_second=row["tokens/per_second"],
            )
            if recipe.eval.every and trainer.steps_done % recipe.eval.every == 0:
                held_out = trainer.evaluate("evaluate")
                row["eval/pass@1"] = held_out["pass@1"]
                row |= {f"eval/{task}/pass@1": rate for task, rate in held_out["by_task"].items()}
            writer.write(trainer.steps_done, row)
            if recipe.checkpoint.every and trainer.steps_done % recipe.checkpoint.every == 0:
                trainer.checkpoint()
