"""TRL's side's process: one optimizer step of GRPOTrainer whenever the driver asks; runs in TRL's environment.

A step lasts from the end of the last (or from the driver's word, if that came later) to `on_step_end`: drawing prompts,
generation, rewards, the losses of all micro-batches, the optimizer.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
import transformers.models.qwen2.modeling_qwen2
from trl import GRPOTrainer

from compare_trl.material import share_of_odd
from compare_trl.trl_best import best_config
from compare_trl.worker import channel, forget_peak, peak_mib, resident_mib, synchronise, told
from compare_trl.works import RATE, Order, read_order


class Watched(GRPOTrainer):
    """Keeps what a step is asked for."""

    grad_norm = float("nan")

    def _clip_grad_norm(self, model: Any) -> Any:
        norm = super()._clip_grad_norm(model)
        self.grad_norm = float(norm)
        return norm


class Steps(transformers.TrainerCallback):
    """Waits for the driver between steps."""

    def __init__(self, say: Any, order: Order, imported: float) -> None:
        self.say, self.order, self.imported = say, order, imported
        self.began, self.tokens = 0.0, 0
        self.trainer: Any = None

    def reward(self, completions: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        self.tokens = sum(map(len, completion_ids))
        return share_of_odd(completions)

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        forget_peak()
        self.say({"base_mib": 0.0 if self.order.device == "cuda" else self.imported})
        self._wait()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        synchronise(self.order.device)
        seconds = time.perf_counter() - self.began
        found = {"seconds": seconds, "tokens": self.tokens, "grad_norm": self.trainer.grad_norm}
        self.say(found | {"peak_mib": peak_mib(self.order.device)})
        self._wait()

    def _wait(self) -> None:
        if not told():
            sys.exit()
        synchronise(self.order.device)
        self.began = time.perf_counter()


def main() -> None:
    say, imported = channel(), resident_mib()
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    order = read_order(json.loads(sys.argv[1]))
    work, folder = order.work, Path(order.folder)
    torch.set_num_threads(order.threads)
    config = best_config(
        str(folder / f"trl-{order.micro_batch}-{order.continuous}"),
        rollouts=work.rollouts,
        group=work.group,
        micro_batch=order.micro_batch,
        continuous=order.continuous,
        completion_tokens=work.completion_tokens,
        dtype=order.dtype,
        device=order.device,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        beta=work.beta,
        max_steps=10**6,
    )
    texts = json.loads((folder / "prompts.json").read_text())
    steps = Steps(say, order, imported)
    steps.trainer = Watched(
        model=str(folder / "model"),
        reward_funcs=steps.reward,
        args=config,
        train_dataset=datasets.Dataset.from_dict({"prompt": texts}),
        processing_class=transformers.AutoTokenizer.from_pretrained(folder / "model"),
        callbacks=[steps],
    )
    steps.trainer.train()


if __name__ == "__main__":
    main()
