"""What a GRPO run is made of, how it is saved and restored, and how its model is delivered."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from groupwise.config import Recipe
from groupwise.learner import policy
from groupwise.learner.memory import available, with_micro_tokens
from groupwise.learner.update import Learner
from groupwise.rollout.local import LocalEngine
from groupwise.run.checkpoint import load_checkpoint, save_checkpoint
from groupwise.run.disk import sync, writing
from groupwise.run.folder import CHECKPOINTS, GROUPS, METRICS, MODEL, ROLLOUTS, hold
from groupwise.run.groups import forget_groups, write_groups
from groupwise.run.metrics import check_trackers
from groupwise.run.rollouts import forget_after, rollouts_path, write_rollouts
from groupwise.run.world import join
from groupwise.stages import given
from groupwise.stages.collect import Collected, Collector
from groupwise.stages.comparison import Comparison
from groupwise.stages.embedding import build_embeddings
from groupwise.stages.engines import build_engine
from groupwise.stages.evaluate import Evaluator, judge_rewards
from groupwise.stages.record import Totals
from groupwise.tasks.mixture import Mixture
from groupwise.tasks.scoring import Scorer
from groupwise.types import Groups, Stateful

UNKNOWN_MEMORY = 2**32  # free bytes to go by where the system does not tell


class Parts:
    """The parts of a run, built from its recipe. All that must survive a crash is in the checkpoint."""

    def __init__(
        self,
        recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
        data: Any = None,
        rewards: given.Rewards | None = None,
        callbacks: Sequence[Callable[..., object]] = (),
        *,
        run_dir: Path | None = None,  # a folder that is there already, and ours
        resume: bool = False,
        profile: bool = False,
    ) -> None:
        self.world = join()
        recipe = given.as_recipe(recipe)
        recipe = recipe if data is None else given.with_data(recipe)
        recipe, functions = given.with_rewards(recipe, rewards)
        self.callbacks, self.profile, self.stopped = list(callbacks), profile, False
        opened: list[Any] = []
        self._end = weakref.finalize(self, _close_all, opened)
        with nullcontext(run_dir) if run_dir else given.run_folder(recipe, self.world, resume) as self.run_dir:
            if self.world.is_first and not run_dir:
                opened.append(hold(self.run_dir))
            self._build(recipe, data, functions, opened)
            if resume:
                self.restore()
            self.scorer.ready()  # a reward that cannot be loaded is told at once

    def _build(self, recipe: Recipe, data: Any, functions: Mapping[str, Callable[..., Any]], opened: list[Any]) -> None:
        check_trackers(recipe.log)
        log = given.rewards_log(self.run_dir)
        tasks = given.tasks_of(recipe, data)  # what is wrong with the data is told before a model is loaded
        self.scorer = Scorer(recipe.tasks, recipe.rewards, functions=functions, log=log)
        self.judge = _judge(recipe, functions, log)
        opened += [self.scorer, self.judge]
        policy.set_threads(recipe.threads)
        device = policy.pick_device(recipe.device)
        dtype = policy.compute_dtype(recipe.update.dtype, device)
        self.recipe, self.steps_done = recipe, 0
        update = with_micro_tokens(policy.load_config(recipe.model), recipe, dtype, device).update
        self.policy = policy.load_policy(recipe.model, device, lora=recipe.lora, seed=recipe.seed, compute=dtype)
        vllm_log = self.run_dir / (f"vllm-{self.world.rank}.log" if self.world.rank else "vllm.log")
        self.engine = build_engine(recipe, self.policy, dtype, vllm_log)
        opened.append(self.engine)
        if isinstance(self.engine, LocalEngine):  # free memory differs between processes, and from one run to the next
            self.engine.max_batch_tokens = min(self.world.gather([self.engine.max_batch_tokens]))
        self.learner = Learner(
            self.policy.model,
            loss=recipe.loss,
            update=update,
            steps=recipe.steps,
            temperature=recipe.rollout.temperature,
            max_tokens=recipe.rollout.max_tokens,
            mask_cut=recipe.rollout.overlong == "mask",
            device=device,
            dtype=dtype,
            world=self.world,
        )
        free = self.world.gather([_free_bytes(recipe)])[0]  # groups must be the same in every process
        self.comparison = Comparison(recipe, build_embeddings(recipe, self.policy.model), free)
        limits = [policy.context_length(self.policy.model), getattr(self.engine, "context", None)]
        context = min((limit for limit in self.world.gather(limits) if limit is not None), default=None)
        mixture = Mixture(tasks, [t.weight for t in recipe.tasks], recipe.seed)
        self.collector = Collector(
            recipe.rollout,
            recipe.seed,
            mixture,
            self.policy.tokenizer,
            self.engine,
            self.scorer,
            context,
            self.world,
            recipe.rollout.repeat if recipe.advantage.kind == "hierarchical" else 0.0,
        )
        self.evaluator = Evaluator(recipe, self.policy.tokenizer, self.judge, tasks, self.world, context)
        self.totals = Totals()
        self.before: dict[str, Any] | None = None  # the evaluation before the first update
        self._saved: tuple[int, bool, bool] | None = None  # what the newest checkpoint knows; see `_knows`
        self._delivered = False

    def stop(self) -> None:
        """End the training after this update, as if the recipe had asked for no more; a resumed run keeps to it."""
        self.stopped = True

    def close(self) -> None:
        """End the processes of the rewards and the engine; done by itself where nobody holds the trainer any more."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def evaluate(self, label: str) -> dict[str, Any] | None:
        """Held-out pass@1, the same prompts and sampling seeds each time; None where eval.prompts is 0."""
        return self.evaluator.run(self.engine, label)

    def deliver(self) -> dict[str, Any] | None:
        """Save the model in the type that it was loaded from, and evaluate it as saved, rounding included."""
        folder, merge = self.run_dir / MODEL, self.recipe.lora.merge
        self._delivered = True
        with writing(folder):
            self.policy = policy.deliver(self.policy, folder, merge=merge, write=self.world.is_first)
        self.world.wait()
        self.engine.take_weights(self.learner.weights(), self.learner.version)
        return self.evaluate("after")

    def record(self, collected: Collected, groups: Groups) -> None:
        """Write the update's rollouts and groups."""
        if not self.world.is_first:
            return
        if self.recipe.run.rollouts:
            write_rollouts(self.run_dir / ROLLOUTS, self.steps_done, collected.all)
        level, reason = self.comparison.fallback
        write_groups(self.run_dir / GROUPS, self.steps_done, groups, collected.kept, level, reason)

    def checkpoint(self) -> None:
        """Save all that the run needs to go on from here; only between updates. What is saved already stays as it is.

        So does what was saved before the model was delivered: by now its adapter is merged, its weights are rounded.
        """
        self.world.first(self._save)

    def _save(self) -> None:
        now = self._knows()
        if self._saved == now or (self._delivered and self._saved and self._saved[0] == self.steps_done):
            return
        state = {name: part.state() for name, part in self._stateful().items()} | {
            "before": self.before,
            "stopped": self.stopped,
            "max_batch_tokens": getattr(self.engine, "max_batch_tokens", None),  # other batches round otherwise
        }
        self._sync()
        save_checkpoint(self.run_dir / CHECKPOINTS, self.steps_done, state, self.recipe.checkpoint.keep)
        self._saved = now

    def _stateful(self) -> dict[str, Stateful]:
        parts: dict[str, Stateful] = {"learner": self.learner, "collector": self.collector}
        return parts | {"comparison": self.comparison, "totals": self.totals}

    def _sync(self) -> None:
        """Records first: a run that is resumed after a power cut does not make again what is in its checkpoint."""
        new = range(self._saved[0] + 1 if self._saved else 1, self.steps_done + 1)
        files = [rollouts_path(self.run_dir / ROLLOUTS, step) for step in new]
        sync(*files, *(self.run_dir / name for name in (ROLLOUTS, GROUPS, METRICS, "")))

    def _knows(self) -> tuple[int, bool, bool]:
        """What may change between two checkpoints."""
        return self.steps_done, self.stopped, self.before is not None

    def restore(self) -> None:
        """Continue from the newest checkpoint, if there is one; whatever was recorded after it is forgotten."""
        if found := load_checkpoint(self.run_dir / CHECKPOINTS):
            self.steps_done, state = found
            for name, part in self._stateful().items():
                part.load_state(state[name])
            self.engine.take_weights(self.learner.weights(), self.learner.version)
            self.before, self.stopped = state["before"], state["stopped"]
            if isinstance(self.engine, LocalEngine):
                self.engine.max_batch_tokens = state["max_batch_tokens"]
            self._saved = self._knows()
        self.world.first(self._forget)

    def _forget(self) -> None:
        forget_after(self.run_dir / ROLLOUTS, self.steps_done)
        forget_groups(self.run_dir / GROUPS, self.steps_done)


def _close_all(parts: Sequence[Any]) -> None:
    for part in parts:
        part.close()


def _judge(recipe: Recipe, functions: Mapping[str, Callable[..., Any]], log: Path) -> Scorer:
    """The scorer of the evaluations."""
    rewards = judge_rewards(recipe)
    given_here = {reward.name: functions[reward.name] for reward in rewards if reward.name in functions}
    return Scorer(recipe.tasks, rewards, functions=given_here, log=log)


def _free_bytes(recipe: Recipe) -> int:
    """Free memory that grouping goes by: the recipe's, or what is there."""
    asked = recipe.grouping.memory_mib
    return asked * 2**20 if asked else available(torch.device("cpu")) or UNKNOWN_MEMORY
