"""Our side's process: one `Trainer.step()` whenever the driver asks."""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from compare_trl.material import share_of_odd
from compare_trl.worker import channel, forget_peak, peak_mib, resident_mib, synchronise, told
from compare_trl.works import RATE, Order, read_order

# TRL has loaded all of its own when it begins; what is loaded later would count as memory of the steps
NEEDED = ("groupwise.stages.grpo", "pandas", "pyarrow.parquet", "transformers.models.qwen2.modeling_qwen2")


def load() -> None:
    for name in NEEDED:
        import_module(name)


def build(order: Order, rewards: Any) -> Any:
    """The Trainer of an order, by the recipe's defaults but for what the work fixes."""
    from groupwise import Trainer

    work, folder = order.work, Path(order.folder)
    recipe = {
        "model": str(folder / "model"),
        "steps": 10**6,
        "threads": order.threads,
        "device": order.device,
        "run": {"dir": str(folder / "run")},
        "rollout": {"group_size": work.group, "batch_size": work.rollouts, "max_tokens": work.completion_tokens},
        "advantage": {"kind": "grpo"},
        "loss": {"kind": "dapo", "beta": work.beta},
        "update": {"learning_rate": RATE, "dtype": order.dtype},
        "eval": {"prompts": 0},
    }
    texts = json.loads((folder / "prompts.json").read_text())
    return Trainer(recipe, data=[{"prompt": text} for text in texts], rewards=rewards)


def main() -> None:
    load()

    def reward(completions: list[str], **_: Any) -> list[float]:
        return share_of_odd(completions)

    say, imported = channel(), resident_mib()
    order = read_order(json.loads(sys.argv[1]))
    trainer, tokens = build(order, reward), 0
    forget_peak()
    say({"base_mib": 0.0 if order.device == "cuda" else imported})
    while told():
        synchronise(order.device)
        began = time.perf_counter()
        row = trainer.step()
        synchronise(order.device)
        seconds = time.perf_counter() - began
        tokens, before = row["tokens/total"], tokens
        found = {"seconds": seconds, "tokens": tokens - before, "grad_norm": row["policy/grad_norm"]}
        say(found | {"peak_mib": peak_mib(order.device)})


if __name__ == "__main__":
    main()
