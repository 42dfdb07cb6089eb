"""Supervised fine-tuning: draw demonstrations, pack, learn, record, checkpoint."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import nn

from groupwise.config import SftDataConfig, SftRecipe, TaskConfig
from groupwise.learner import policy
from groupwise.learner.optimizer import build_optimizer, learning_rate, optimizer_step
from groupwise.learner.packing import PackedRows, pack
from groupwise.run.checkpoint import load_checkpoint, save_checkpoint
from groupwise.run.folder import CHECKPOINTS, METRICS, MODEL
from groupwise.run.metrics import MetricsWriter
from groupwise.stages.interrupt import Interrupt
from groupwise.stages.progress import Progress
from groupwise.tasks.demonstrations import WORKED, demonstrate
from groupwise.tasks.gym import load_task, prompt_id
from groupwise.tasks.mixture import Mixture
from groupwise.types import Prompt, UserError


def train_sft(recipe: SftRecipe, run_dir: Path, resume: bool = False) -> None:
    """Run the recipe in `run_dir`; leaves `model/`, `metrics.jsonl` and checkpoints there."""
    policy.set_threads(recipe.threads)
    device = policy.pick_device(recipe.device)
    dtype = policy.compute_dtype(recipe.update.dtype, device)
    loaded = policy.load_policy(recipe.model, device)
    model = loaded.model
    optimizer = build_optimizer(model, recipe.update)
    data = Demonstrations(recipe, loaded.tokenizer)

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
            loss = learn(model, rows, recipe.micro_rows, device, dtype)
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
        raise KeyboardInterrupt
    policy.save_policy(loaded, run_dir / MODEL)
    print(f"The model is in {run_dir / MODEL}.")


def learn(model: nn.Module, rows: PackedRows, micro_rows: int, device: torch.device, dtype: torch.dtype) -> float:
    """Backward of the mean cross-entropy over all learned tokens of `rows`; returns it. Micro-batching changes nothing."""
    total = int((rows.labels >= 0).sum())
    loss = 0.0
    for start in range(0, len(rows.input_ids), micro_rows):
        part = rows.rows(start, start + micro_rows).to(device)
        learned = part.labels >= 0
        with policy.autocast(device, dtype):
            hidden = model.get_decoder()(  # type: ignore[operator]
                input_ids=part.input_ids,
                attention_mask=part.attention_mask(),
                position_ids=part.position_ids,
                use_cache=False,
            ).last_hidden_state
            logits = model.get_output_embeddings()(hidden[learned])  # type: ignore[operator]
        share = nn.functional.cross_entropy(logits.float(), part.labels[learned], reduction="sum") / total
        share.backward()  # type: ignore[no-untyped-call]
        loss += float(share.detach())
    return loss


class Demonstrations:
    """Packed rows of demonstrations, drawn from the recipe's sources by weight; its state is in the checkpoint."""

    def __init__(self, recipe: SftRecipe, tokenizer: Any) -> None:
        if not recipe.data:
            raise UserError("data: the recipe names no demonstrations; add a file or a reasoning-gym family")
        self._recipe, self._tokenizer = recipe, tokenizer
        self._sources = {source.name: source for source in recipe.data}
        tasks = [FileSource(source) if source.file else _family(source) for source in recipe.data]
        self._mixture = Mixture(tasks, [source.weight for source in recipe.data], recipe.seed)
        self._count = 0  # demonstrations drawn so far
        self._waiting: list[tuple[list[int], int]] = []  # drawn, not yet packed
        self.dropped = 0  # longer than a row

    def draw(self) -> PackedRows:
        """The next optimizer step's rows."""
        budget = self._recipe.rows * self._recipe.length
        while sum(len(tokens) for tokens, _ in self._waiting) < budget:
            self._waiting.append(self._next())
        rows, taken = pack(self._waiting, self._recipe.rows, self._recipe.length)
        self._waiting = self._waiting[taken:]
        return rows

    def _next(self) -> tuple[list[int], int]:
        while True:
            (prompt,) = self._mixture.draw(1)
            source = self._sources[prompt.task]
            rng = Random(f"{self._recipe.seed}/{self._count}")
            self._count += 1
            if source.file:
                completion = str(prompt.answer)
            else:
                style = rng.choices(list(source.styles), list(source.styles.values()))[0]
                completion = demonstrate(prompt, source.family or source.name, style, rng)
            tokens, prompt_length = encode_example(self._tokenizer, prompt.text, completion)
            if len(tokens) <= self._recipe.length:
                return tokens, prompt_length
            self.dropped += 1
            if self.dropped > 1000 and self.dropped == self._count:
                raise UserError(f"length: all demonstrations are longer than {self._recipe.length} tokens")

    def state(self) -> dict[str, Any]:
        waiting = [(list(tokens), length) for tokens, length in self._waiting]
        return {"mixture": self._mixture.state(), "count": self._count, "waiting": waiting, "dropped": self.dropped}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._mixture.load_state(state["mixture"])
        self._count, self.dropped = state["count"], state["dropped"]
        self._waiting = [(list(tokens), length) for tokens, length in state["waiting"]]


def encode_example(tokenizer: Any, prompt: str, completion: str) -> tuple[list[int], int]:
    """Token ids of prompt, completion and end token, and the prompt's length."""
    if tokenizer.chat_template:
        messages = [{"role": "user", "content": prompt}]
        before = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    else:
        before = tokenizer(prompt)["input_ids"]
    after = tokenizer(completion, add_special_tokens=False)["input_ids"]
    return [*before, *after, tokenizer.eos_token_id], len(before)


def _family(source: SftDataConfig) -> Any:
    task = load_task(TaskConfig(name=source.name, family=source.family, params=source.params))
    if task.family not in WORKED:
        known = ", ".join(sorted(WORKED))
        raise UserError(f"data {source.name}: no worked solutions for {task.family!r}; there are: {known}")
    return task


class FileSource:
    """Demonstrations from JSONL: `prompt` and `completion` in each record, in an order shuffled anew each pass."""

    def __init__(self, source: SftDataConfig) -> None:
        self.name, self.domain = source.name, source.name
        path = Path(str(source.file))
        if not path.is_file():
            raise UserError(f"data {source.name}: there is no file {path}")
        self._records: list[Prompt] = []
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                text, completion = str(record["prompt"]), str(record["completion"])
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"data {source.name}: {path} line {number}: needs `prompt` and `completion` ({error})"
                ) from None
            self._records.append(
                Prompt(id=prompt_id(source.name, text), task=self.name, domain=self.domain, text=text, answer=completion)
            )
        if not self._records:
            raise UserError(f"data {source.name}: {path} is empty")

    def stream(self, seed: int, *, held_out: bool, cursor: int = 0) -> FileStream:
        return FileStream(self._records, seed, cursor)

    def score(self, prompt: Prompt, completion: str) -> float:
        return float(completion == prompt.answer)


class FileStream:
    """Endless passes over records; `cursor` counts the records given."""

    def __init__(self, records: list[Prompt], seed: int, cursor: int) -> None:
        self.cursor, self._records, self._seed = cursor, records, seed
        self._order = self._shuffled()

    def __iter__(self) -> Iterator[Prompt]:
        return self

    def __next__(self) -> Prompt:
        size = len(self._records)
        if self.cursor and self.cursor % size == 0:
            self._order = self._shuffled()
        record = self._records[self._order[self.cursor % size]]
        self.cursor += 1
        return record

    def _shuffled(self) -> list[int]:
        order = list(range(len(self._records)))
        Random(f"{self._seed}/{self.cursor // len(order)}").shuffle(order)
        return order
