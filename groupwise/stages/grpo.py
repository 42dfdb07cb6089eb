"""GRPO: draw prompts, generate, score, group, estimate advantages, update the policy, record, evaluate, checkpoint."""

from __future__ import annotations

from pathlib import Path

from groupwise.advantage import estimate
from groupwise.config import Recipe
from groupwise.grouping import by_prompt
from groupwise.report import write_report
from groupwise.run.disk import writing
from groupwise.run.folder import METRICS, REPORT, ROLLOUTS, SUMMARY
from groupwise.run.metrics import MetricsWriter
from groupwise.run.rollouts import write_rollouts
from groupwise.stages.clock import Clock
from groupwise.stages.collect import Collected, add_reward
from groupwise.stages.evaluate import ACCURACY, compare
from groupwise.stages.finish import finish
from groupwise.stages.interrupt import Interrupt
from groupwise.stages.parts import Parts
from groupwise.stages.progress import Progress
from groupwise.stages.record import metrics_row
from groupwise.tasks.scoring import Scorer
from groupwise.types import Groups


class Trainer(Parts):
    """A GRPO run that is made one update at a time."""

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
            self._estimate(collected, groups)
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

    def _estimate(self, collected: Collected, groups: Groups) -> None:
        kept, loss, advantage = collected.kept, self.recipe.loss, self.recipe.advantage
        if not kept:
            return
        if loss.beta > 0 and loss.kl == "k1":
            for rollout, divergence in zip(kept, self.learner.reference_kl(kept), strict=True):
                add_reward(rollout, "kl", -loss.beta * divergence)
        values = estimate(advantage.kind, [r.reward for r in kept], groups.levels, advantage.scale)
        for rollout, value in zip(kept, values, strict=True):
            rollout.advantage = float(value)


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
                **({"dropped": dropped} if (dropped := trainer.totals.values["dropped"]) else {}),
            )
            if recipe.eval.every and trainer.steps_done % recipe.eval.every == 0:
                held_out = trainer.evaluate("evaluate")
                row["eval/pass@1"] = held_out["pass@1"]
                row |= {f"eval/{task}/pass@1": rate for task, rate in held_out["by_task"].items()}
            writer.write(trainer.steps_done, row)
            if recipe.checkpoint.every and trainer.steps_done % recipe.checkpoint.every == 0:
                trainer.checkpoint()
