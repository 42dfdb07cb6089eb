"""GRPO: draw prompts, generate, score, group, estimate advantages, update the policy, record, evaluate, checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from groupwise.config import Recipe
from groupwise.report import write_report
from groupwise.report.notebook import Run
from groupwise.run.folder import METRICS, PROFILE, REPORT, SUMMARY
from groupwise.run.metrics import MetricsWriter
from groupwise.run.profile import Profile, span, update
from groupwise.stages.clock import Clock
from groupwise.stages.collect import Collected, add_reward
from groupwise.stages.finish import finish, show_profile
from groupwise.stages.given import is_from_python, what_continues
from groupwise.stages.interrupt import Interrupt
from groupwise.stages.parts import Parts
from groupwise.stages.progress import Progress
from groupwise.stages.record import metrics_row
from groupwise.stages.summarise import compare, held_out_metrics
from groupwise.types import Rollout, UserError

# Called after each update with the trainer and the update's metrics.
Callback = Callable[["Trainer", dict[str, float]], object]


class Trainer(Parts):
    """A GRPO run: `train()` makes all of it, `step()` one update, for those who write their own loop.

    `recipe`: a Recipe, its keys as a mapping, or the path of a YAML file. `data`: records (a list of dicts, a data set
    of `datasets`, a pandas DataFrame) instead of the recipe's tasks. `rewards`: a function, several, or {name:
    function}, called as (prompt, completion) or as TRL calls them (prompts, completions, **columns), sync or async;
    instead of the default reward. `callbacks`: each is called as callback(trainer, metrics) after every update.
    `resume`: continue the run in `run.dir`, if there is one. `profile`: have `train()` write where time and memory went
    (docs/profile.md). Raises UserError for what the user can mend.
    """

    def step(self) -> dict[str, float]:
        """One update of the policy; returns its metrics (docs/metrics.md)."""
        clock, collected, start = Clock(), Collected(), self.collector.state()
        try:
            while count := self.collector.missing(collected):
                with clock("draw"):
                    prompts = self.collector.draw(count)
                with clock("embed"), self.world.together():
                    prompts = self.comparison.embed(prompts)
                with clock("generate"):
                    rollouts = self.collector.generate(prompts)
                with clock("score"):
                    rollouts = self.collector.score(rollouts)
                    self.collector.sort(rollouts, collected, where=f"update {self.steps_done + 1}")
        except Exception:
            self.collector.load_state(start)  # nothing has been learned yet: whoever resumes repeats this update, whole
            self.checkpoint()
            raise
        with clock("group"):
            groups = self.comparison.group(collected.kept)
        with clock("estimate"):
            self._penalise(collected.kept)
            self.comparison.estimate(collected.kept, groups)
        with clock("update"):
            learned = self.learner.update(collected.kept)
            with span("weights"):
                self.engine.take_weights(self.learner.weights(), self.learner.version)
            if self.comparison.follows_policy:
                self.comparison.moved(self.learner.shift(collected.kept))
        self.steps_done += 1
        with clock("record"):
            self.record(collected, groups)
        self.totals.add(collected, clock)
        row = metrics_row(collected, groups, learned, self.totals, clock)
        return row | self.comparison.report() | {"prompts/skipped": self.collector.skipped}

    def _penalise(self, rollouts: Sequence[Rollout]) -> None:
        """The KL divergence from the reference as a reward, where the recipe wants it there."""
        loss = self.recipe.loss
        if rollouts and loss.beta > 0 and loss.kl == "k1":
            for rollout, divergence in zip(rollouts, self.learner.reference_kl(rollouts), strict=True):
                add_reward(rollout, "kl", -loss.beta * divergence)

    def train(self) -> Run:
        """Train to the end of the recipe; leaves model, summary and report in the run folder.

        Ctrl-C saves a checkpoint first and raises KeyboardInterrupt. After own calls of `step()` there is no evaluation
        from before the first update to compare with.
        """
        if self.before is None and self.steps_done == 0:
            self.before = self.evaluate("before")
            self.checkpoint()
        with Interrupt() as interrupt:
            self._loop(interrupt)
            self.checkpoint()
        if self.world.any(interrupt.asked):  # after the last update too: who asked does not wait for an evaluation
            if self.world.is_first:
                print(f"Saved after update {self.steps_done}; {what_continues(self.recipe, self.run_dir)} continues.")
            raise KeyboardInterrupt
        after = self.deliver()
        if self.world.is_first:
            gain = compare(self.before, after)
            finish(self.recipe, self.run_dir, self.steps_done, self.totals, self.before, after, gain)
        self.world.wait()
        return Run(self.run_dir)

    def _loop(self, interrupt: Interrupt) -> None:
        """Update, evaluate, record and checkpoint until the recipe's steps are done, or somebody wants to stop."""
        recipe = self.recipe
        with ExitStack() as stack:
            progress = stack.enter_context(Progress(recipe.steps, self.steps_done))
            writer = None
            if self.world.is_first:
                metrics = MetricsWriter(self.run_dir / METRICS, recipe.log, last_step=self.steps_done)
                writer = stack.enter_context(metrics)
                if self.profile:
                    device = self.policy.model.device.type
                    stack.enter_context(Profile(self.run_dir / PROFILE, device, self.steps_done))
            while not self._ends(interrupt):
                with update():
                    row = self.step()
                progress.show(self.steps_done, **self._headline(row))
                with self._saved_if_it_fails():
                    self._measure(row, writer)
                    for callback in self.callbacks:
                        callback(self, row)
                if recipe.checkpoint.every and self.steps_done % recipe.checkpoint.every == 0:
                    self.checkpoint()

    def _ends(self, interrupt: Interrupt) -> bool:
        self.stopped = self.world.any(self.stopped)  # it may have been stopped in one process only
        return self.stopped or self.steps_done >= self.recipe.steps or self.world.any(interrupt.asked)

    @contextmanager
    def _saved_if_it_fails(self) -> Iterator[None]:
        """Inside is what follows an update: an error there, in any process, costs none of the updates made."""
        try:
            with self.world.together():
                yield
        except Exception:
            self.checkpoint()
            raise

    def _measure(self, row: dict[str, float], writer: MetricsWriter | None) -> None:
        """Add the evaluation to the row, where one is due, and write it; the row is written without one that fails."""
        try:
            if self._evaluates():
                row |= held_out_metrics(self.evaluate("evaluate")) | self.comparison.diagnostics()
        finally:
            if writer:
                writer.write(self.steps_done, row)

    def _evaluates(self) -> bool:
        """Every so many updates; not after the last one, which the evaluation of the saved model follows."""
        every = self.recipe.eval.every
        return bool(every) and self.steps_done % every == 0 and self.steps_done < self.recipe.steps

    def _headline(self, row: dict[str, float]) -> dict[str, float]:
        dropped = self.totals.values["dropped"]
        numbers = {"reward": row["reward/mean"], "accuracy": row["accuracy"]}
        return numbers | {"tokens_per_second": row["tokens/per_second"]} | ({"dropped": dropped} if dropped else {})


def train(recipe: Recipe, run_dir: Path, resume: bool = False, profile: bool = False) -> None:
    """`groupwise train`: run the recipe in `run_dir`, from its newest checkpoint with `resume`."""
    if resume and (run_dir / SUMMARY).exists():
        print(f"The run in {run_dir} is finished.")
        if recipe.run.report and not (run_dir / REPORT).exists():  # it was killed just before this
            write_report(run_dir)
        return
    if resume and is_from_python(recipe):
        how = what_continues(recipe, run_dir)
        raise UserError(f"{run_dir}: its data or rewards were given from Python; {how} goes on with it")
    with Trainer(recipe, run_dir=run_dir, resume=resume, profile=profile) as trainer:
        try:
            trainer.train()
        finally:
            if profile and trainer.world.is_first:
                show_profile(run_dir)
