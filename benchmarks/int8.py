"""Decoding on a CPU with weights of 8 bits (`rollout.int8`): what it gains, and what it changes.

    python benchmarks/int8.py [--pairs 5]          benchmarks/results/int8.json, and its place in docs/speed.md

Gain: seconds to generate 32 completions of 48 tokens to 16 prompts of 32, by a model of Qwen2.5-0.5B's shape with
random weights, rounding included; exact and rounded weights in turn. Change: on the demo's held-out questions to
seedling, the mean absolute difference between the log-probs that go with the rounded weights and the policy's, the same
number as the metric `policy/mismatch`; and pass@1 with each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "int8.json"
COMPLETIONS, TOKENS, LENGTH = 32, 48, 32
END = -1  # no token: all completions get as long


def main(pairs: int) -> None:
    import pages
    from compare_trl.report import describe

    from groupwise.stages.record import machine

    result = {"machine": machine(), "seconds": seconds(pairs), **change()}
    result["time_ratio"] = statistics.median(exact / rounded for exact, rounded in result["seconds"])
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    exact, rounded = (statistics.median(side) for side in zip(*result["seconds"], strict=True))
    text = (
        f"Generating takes {exact:.1f} s with the weights as they are and {rounded:.1f} s with 8 bits: "
        f"**{result['time_ratio']:.1f} times** as fast (median of {pairs} pairs). The mismatch on seedling is "
        f"{result['mismatch']:.4f} nats; pass@1 {result['pass@1'][0]:.1%} and {result['pass@1'][1]:.1%} "
        f"({result['prompts']:,} prompts).\n\nMachine: {describe(result['machine'])}."
    )
    pages.fill(pages.SPEED, "int8", text)
    print(text)


def seconds(pairs: int) -> list[tuple[float, float]]:
    """With exact and with rounded weights, in turn; the first pair warms up."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from groupwise.rollout.local import LocalEngine
    from groupwise.types import Prompt, Sampling

    sys.path.append(str(ROOT / "scripts"))
    from random_model import SHAPES, byte_tokenizer

    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(**SHAPES["qwen2.5-0.5b"], tie_word_embeddings=True, eos_token_id=None))
    engines = [LocalEngine(model, byte_tokenizer(), int8=int8) for int8 in (False, True)]
    for engine in engines:
        engine._ends = [END]
    prompts = [
        Prompt(id=str(i), task="t", domain="d", text="", token_ids=tuple(range(10 + i, 10 + i + LENGTH)))
        for i in range(COMPLETIONS // 2)
        for _ in range(2)
    ]

    def timed(engine: Any) -> float:
        began = time.perf_counter()
        engine.generate(prompts, range(COMPLETIONS), Sampling(max_tokens=TOKENS))
        return time.perf_counter() - began

    found = []
    for pair in range(pairs + 1):
        found.append((timed(engines[0]), timed(engines[1])))
        print(f"pair {pair}: {found[-1][0]:.1f} s, {found[-1][1]:.1f} s", flush=True)
    return found[1:]


def change() -> dict[str, Any]:
    import torch

    from groupwise.config import Recipe
    from groupwise.learner.policy import load_policy
    from groupwise.recipes import load_recipe
    from groupwise.rollout.local import LocalEngine
    from groupwise.stages.evaluate import Evaluator, judge_rewards
    from groupwise.tasks.scoring import Scorer
    from groupwise.types import Sampling

    recipe = load_recipe(Recipe, ROOT / "recipes" / "demo.yaml", ["--eval.prompts=100"])
    policy = load_policy(recipe.model, torch.device("cpu"))
    rates, off = [], []
    with Scorer(recipe.tasks, judge_rewards(recipe)) as scorer:
        evaluator = Evaluator(recipe, policy.tokenizer, scorer)
        for int8 in (False, True):
            engine = LocalEngine(policy.model, policy.tokenizer, int8=int8)
            result = evaluator.run(engine, "evaluate")
            assert result is not None
            rates.append(result["pass@1"])
        prompts = evaluator._prompts
        sampling = Sampling(max_tokens=recipe.rollout.max_tokens, seed=recipe.eval.seed)
        for prompt, said in zip(prompts, engine.generate(prompts, range(len(prompts)), sampling), strict=True):
            ids = torch.tensor([prompt.token_ids + said.token_ids])
            with torch.no_grad():
                logprobs = policy.model(input_ids=ids).logits[0, len(prompt.token_ids) - 1 : -1].log_softmax(-1)
            own = logprobs.gather(-1, torch.tensor(said.token_ids)[:, None])[:, 0]
            off.append((own - torch.tensor(said.logprobs)).abs())
    return {"pass@1": rates, "prompts": len(prompts), "mismatch": float(torch.cat(off).mean())}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    main(parser.parse_args().pairs)
