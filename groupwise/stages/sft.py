"""Supervised fine-tuning: draw demonstrations, pack, learn, record, checkpoint."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from groupwise.config import SftDataConfig, SftRecipe
from groupwise.learner import policy
from groupwise.learner.forward import fitted
from groupwise.learner.optimizer import build_optimizer, learning_rate, optimizer_step
from groupwise.learner.packing import PackedRows, check_packing, pack
from groupwise.learner.supervised import learn
from groupwise.rollout.encode import encode, end_token_ids
from groupwise.run.checkpoint import load_checkpoint, save_checkpoint
from groupwise.run.folder import CHECKPOINTS, METRICS, MODEL
from groupwise.run.metrics import MetricsWriter, check_trackers
from groupwise.run.world import size
from groupwise.stages.interrupt import Interrupt
from groupwise.stages.progress import Progress
from groupwise.tasks.demonstrations import WORKED, demonstrate
from groupwise.tasks.files import FileTask
from groupwise.tasks.gym import GymTask
from groupwise.tasks.mixture import Mixture
from groupwise.types import Task, UserError

PATIENCE = 1000  # demonstrations after which, if none fitted into a row, none is expected to


def train_sft(recipe: SftRecipe, run_dir: Path, resume: bool = False) -> None:
    """Run the recipe in `run_dir`; leaves `model/`, `metrics.jsonl` and checkpoints there."""
    if size() > 1:
        raise UserError("groupwise sft runs in one process, on one device; start it without torchrun")
    check_trackers(recipe.log)
    policy.set_threads(recipe.threads)
    device = policy.pick_device(recipe.device)
    dtype = policy.compute_dtype(recipe.update.dtype, device)
    loaded = policy.load_policy(recipe.model, device)
    model = loaded.model
    limit = policy.context_length(model)
    if limit is not None and recipe.length > limit:
        raise UserError(f"length: {recipe.length} is more than the {limit} tokens that {recipe.model} can read")
    check_packing(model)
    forward = fitted(model, 1.0, dtype, siblings=False)
    optimizer = build_optimizer(model, recipe.update)
    data = Demonstrations(recipe, loaded.tokenizer, end_token(model, loaded.tokenizer))

    step = 0
    if resume and (found := load_checkpoint(run_dir / CHECKPOINTS)):
        step, state = found
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        data.load_state(state["data"])

    def checkpoint() -> None:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "data": data.state()}
        save_checkpoint(run_dir / CHECKPOINTS, step, state, recipe.checkpoint.keep)

    with (
        Interrupt() as interrupt,
        MetricsWriter(run_dir / METRICS, recipe.log, last_step=step) as writer,
        Progress(recipe.steps, step) as progress,
    ):
        while step < recipe.steps and not interrupt.asked:
            began = time.perf_counter()
            rows = data.draw()
            loss = learn(forward, rows, recipe.micro_rows, device)
            rate = learning_rate(recipe.update, step, recipe.steps)
            norm = optimizer_step(model, optimizer, rate, recipe.update.max_grad_norm)
            step += 1
            speed = int((rows.segments > 0).sum()) / (time.perf_counter() - began)
            numbers = {"loss": loss, "policy/grad_norm": norm, "policy/learning_rate": rate}
            writer.write(step, numbers | {"tokens/per_second": speed, "demonstrations/dropped": data.dropped})
            progress.show(step, loss=loss, tokens_per_second=speed)
            if recipe.checkpoint.every and step % recipe.checkpoint.every == 0:
                checkpoint()
        checkpoint()
    if interrupt.asked:
        print(f"Saved after update {step}; groupwise sft --resume {run_dir} continues.")
        raise KeyboardInterrupt
    policy.save_policy(loaded, run_dir / MODEL)
    print(f"The model is in {run_dir / MODEL}.")


class Demonstrations:
    """Packed rows of demonstrations, drawn from the recipe's sources by weight; its state is in the checkpoint."""

    def __init__(self, recipe: SftRecipe, tokenizer: Any, end: int) -> None:
        if not recipe.data:
            raise UserError("data: the recipe names no demonstrations; add a file or a reasoning-gym family")
        self._recipe, self._tokenizer, self._end = recipe, tokenizer, end
        self._sources = {source.name: source for source in recipe.data}
        if len(self._sources) < len(recipe.data):
            names = [source.name for source in recipe.data]
            raise UserError(f"data: two sources are named {max(names, key=names.count)!r}")
        self._mixture = Mixture(
            [_source(source) for source in recipe.data], [source.weight for source in recipe.data], recipe.seed
        )
        self._count = 0  # demonstrations drawn so far
        self._waiting: list[tuple[list[int], int]] = []  # drawn, not yet packed
        self.dropped = 0  # longer than a row

    def draw(self) -> PackedRows:
        """The next optimizer step's rows."""
        missing = self._recipe.rows * self._recipe.length - sum(len(tokens) for tokens, _ in self._waiting)
        while missing > 0:
            self._waiting.append(self._next())
            missing -= len(self._waiting[-1][0])
        rows, taken = pack(self._waiting, self._recipe.rows, self._recipe.length)
        self._waiting = self._waiting[taken:]
        return rows

    def _next(self) -> tuple[list[int], int]:
        """Token ids of the next demonstration that fits into a row, and how many of them are its prompt's."""
        while True:
            (prompt,) = encode(self._mixture.draw(1), self._tokenizer)
            source = self._sources[prompt.task]
            rng = Random(f"{self._recipe.seed}/{self._count}")
            self._count += 1
            if source.file:
                completion = str(prompt.answer)
            else:
                style = rng.choices(list(source.styles), list(source.styles.values()))[0]
                completion = demonstrate(prompt, source.family or source.name, style, rng)
            answer = self._tokenizer(completion, add_special_tokens=False)["input_ids"]
            tokens = [*prompt.token_ids, *answer, self._end]
            if len(tokens) <= self._recipe.length:
                return tokens, len(prompt.token_ids)
            self.dropped += 1
            if self.dropped == self._count >= PATIENCE:
                raise UserError(f"length: all demonstrations are longer than {self._recipe.length} tokens")

    def state(self) -> dict[str, Any]:
        waiting = [(list(tokens), length) for tokens, length in self._waiting]
        return {"mixture": self._mixture.state(), "count": self._count, "waiting": waiting, "dropped": self.dropped}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._mixture.load_state(state["mixture"])
        self._count, self.dropped = state["count"], state["dropped"]
        self._waiting = [(list(tokens), length) for tokens, length in state["waiting"]]


def end_token(model: Any, tokenizer: Any) -> int:
    """The token that ends a demonstration: one after which generation stops."""
    ends = end_token_ids(model, tokenizer)
    return int(tokenizer.eos_token_id) if tokenizer.eos_token_id in ends else ends[0]


def _source(source: SftDataConfig) -> Task:
    if source.file:
        return FileTask(source.name, source.file)
    if not any(source.styles.values()):
        raise UserError(f"data {source.name}: styles: no style has a share above 0")
    task = GymTask(source.name, source.family or source.name, source.params)
    if task.family not in WORKED:
        known = ", ".join(sorted(WORKED))
        raise UserError(f"data {source.name}: no worked solutions for {task.family!r}; there are: {known}")
    return task
