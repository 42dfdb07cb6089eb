"""A reward in ten lines: seedling learns to be right, and brief about it.

python examples/reward.py
"""

from groupwise import Trainer

RECIPE = {
    "tasks": [{"name": "gcd", "params": {"max_value": 100}}],
    "rewards": [{"name": "accuracy"}, {"name": "brevity", "weight": 0.2}],
    "rollout": {"group_size": 4, "max_tokens": 96},
    "update": {"learning_rate": 1e-4},
    "steps": 20,
    "eval": {"prompts": 100},
    "run": {"dir": "runs/brevity"},
}


def brevity(prompt, completion):
    """1 for an empty answer, falling to 0 at 200 characters."""
    return max(0.0, 1 - len(completion) / 200)


def main(recipe=RECIPE):
    """Train; returns the run."""
    return Trainer(recipe, rewards={"brevity": brevity}).train()


if __name__ == "__main__":
    print(main())
