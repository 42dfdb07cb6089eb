"""One training of seedling on the demo's tasks by TRL; runs in TRL's virtual environment.

Its one argument is a JSON object with folder, rate, group, minibatches, seed, steps and every.

Prompts, in the same order, and scores are those of groupwise's tasks; the optimizer's settings, the clip and the
learning rate's warm-up and schedule are those of its recipe. Every few batches of rollouts the weights are kept, in
float32, in `step-N/`, N counting batches; at the end `seconds.json` says how long the training had taken by then,
without the keeping.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from compare_trl.trl_best import best_config
from sample_efficiency.places import DEMO
from trl import GRPOTrainer

from groupwise.config import Recipe
from groupwise.learner.optimizer import learning_rate
from groupwise.learner.policy import compute_dtype, pick_device, resolve_model, set_threads
from groupwise.loss import DEFAULT_CLIP
from groupwise.recipes import load_recipe
from groupwise.tasks.load import load_task
from groupwise.tasks.mixture import Mixture

MICRO_BATCH = 32


class Keeper(transformers.TrainerCallback):
    """Times the batches, each of `minibatches` optimizer steps, and keeps the weights between them."""

    def __init__(self, folder: Path, every: int, minibatches: int, tokenizer: Any) -> None:
        self.folder, self.every, self.minibatches, self.tokenizer = folder, every, minibatches, tokenizer
        self.seconds: dict[int, float] = {}
        self.total = self.began = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.began = time.perf_counter()

    def on_step_end(self, _: Any, state: Any, __: Any, *, model: Any, **___: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.total += time.perf_counter() - self.began
        batch, rest = divmod(state.global_step, self.minibatches)
        if rest == 0 and (batch % self.every == 0 or state.global_step == state.max_steps):
            self.seconds[batch] = self.total
            for saved in (model, self.tokenizer):
                saved.save_pretrained(self.folder / f"step-{batch}")
        self.began = time.perf_counter()


class Scheduled(GRPOTrainer):
    """With a learning rate that is the optimizer's times `factor` of the number of steps before."""

    factor: Callable[[int], float]

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, self.factor)
        return self.lr_scheduler


def main() -> None:
    order = json.loads(sys.argv[1])
    recipe = load_recipe(Recipe, DEMO, [f"--seed={order['seed']}"])
    rollout, update, folder = recipe.rollout, recipe.update, Path(order["folder"])
    tasks = {task.name: load_task(task) for task in recipe.tasks}
    mixture = Mixture(list(tasks.values()), [task.weight for task in recipe.tasks], recipe.seed)
    drawn = mixture.draw(rollout.batch_size // order["group"] * order["steps"])

    def accuracy(completions: list[list[dict[str, str]]], number: list[int], **_: Any) -> list[float]:
        return [
            tasks[drawn[n].task].score(drawn[n], said[0]["content"])
            for n, said in zip(number, completions, strict=True)
        ]

    transformers.logging.set_verbosity_error()
    set_threads(recipe.threads)
    device = pick_device(recipe.device)
    dtype = str(compute_dtype(update.dtype, device)).removeprefix("torch.")
    tokenizer = transformers.AutoTokenizer.from_pretrained(resolve_model(recipe.model))
    minibatches = order["minibatches"]
    keeper = Keeper(folder, order["every"], minibatches, tokenizer)
    config = best_config(
        str(folder / "trl"),
        rollouts=rollout.batch_size,
        group=order["group"],
        minibatches=minibatches,
        micro_batch=min(MICRO_BATCH, rollout.batch_size // minibatches),
        completion_tokens=rollout.max_tokens,
        dtype=dtype,
        device=device.type,
        learning_rate=order["rate"],
        adam_beta1=update.betas[0],
        adam_beta2=update.betas[1],
        weight_decay=update.weight_decay,
        epsilon=DEFAULT_CLIP[recipe.loss.kind][0],
        epsilon_high=DEFAULT_CLIP[recipe.loss.kind][1],
        max_steps=order["steps"] * minibatches,
        seed=order["seed"],
    )
    rows = [{"prompt": [{"role": "user", "content": p.text}], "number": n} for n, p in enumerate(drawn)]
    trainer = Scheduled(
        model=resolve_model(recipe.model),
        reward_funcs=accuracy,
        args=config,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[keeper],
    )
    rates = update.model_copy(update={"learning_rate": 1.0})
    trainer.factor = lambda step: learning_rate(rates, step // minibatches, order["steps"])
    trainer.train()
    (folder / "seconds.json").write_text(json.dumps(keeper.seconds))


if __name__ == "__main__":
    main()
