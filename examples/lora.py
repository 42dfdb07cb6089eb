"""LoRA on a model of half a billion parameters, with a data set of `datasets` and two rewards.

python examples/lora.py [MODEL]

On one GPU, with the model and GSM8K from the Hugging Face hub: pip install 'groupwise[lora,data,math]'.
"""

import re
import sys

from groupwise import Trainer

RECIPE = {
    "model": "Qwen/Qwen2.5-0.5B-Instruct",
    "steps": 100,
    "lora": {"rank": 16},
    "rewards": [{"name": "accuracy", "function": "math"}, {"name": "shown", "weight": 0.1, "requires": "accuracy"}],
    "rollout": {"group_size": 4, "batch_size": 64, "max_tokens": 300},
    "update": {"learning_rate": 2e-5},
    "eval": {"prompts": 100},
    "run": {"dir": "runs/lora"},
}


def questions():
    """GSM8K as records with a prompt and an answer; other columns would reach the rewards, too."""
    from datasets import load_dataset

    records = load_dataset("openai/gsm8k", "main", split="train")
    ask = "{} Reason step by step, and put the final answer within \\boxed{{}}."
    return records.map(lambda r: {"prompt": ask.format(r["question"]), "answer": r["answer"].split("#### ")[1]})


def shown(completions, **columns):
    """As TRL calls it: 1 where the working is there, at least three equations."""
    return [float(len(re.findall(r"=", completion)) >= 3) for completion in completions]


def main(recipe=RECIPE, data=None):
    """Train; returns the run."""
    return Trainer(recipe, data=questions() if data is None else data, rewards={"shown": shown}).train()


if __name__ == "__main__":
    print(main(RECIPE | {"model": sys.argv[1]} if len(sys.argv) > 1 else RECIPE))
