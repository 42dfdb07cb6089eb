"""Rates from outcomes: what is dropped is counted and left out, whole tasks included."""

from __future__ import annotations

import math

import rich

from groupwise.config import EvalConfig
from groupwise.stages.evaluate import summarise, table
from groupwise.types import Completion, Prompt, Rollout


def rollout(task: str, number: int, reward: float | None) -> Rollout:
    prompt = Prompt(id=f"{task}{number}", task=task, domain="d", text="?")
    completion = Completion(token_ids=(1, 2), logprobs=(0.0, 0.0), text="", finish_reason="stop", policy_version=0)
    if reward is None:
        return Rollout(prompt=prompt, completion=completion, dropped="accuracy: timeout")
    return Rollout(prompt=prompt, completion=completion, rewards={"accuracy": reward}, reward=reward)


def test_a_task_whose_every_rollout_was_dropped_is_left_out() -> None:
    config = EvalConfig(samples=2)
    rollouts = [rollout("a", 0, 1.0), rollout("a", 0, 0.0), rollout("b", 0, None), rollout("b", 0, None)]
    result = summarise(rollouts, config)
    assert result["pass@1"] == 0.5
    assert result["pass@2"] == 1.0
    assert list(result["by_task"]) == list(result["by_task_pass@2"]) == ["a"]
    assert result["dropped_rollouts"] == 2
    rich.print(table({"model": "m", **result}))


def test_pass_at_k_needs_k_completions_of_a_prompt() -> None:
    result = summarise([rollout("a", 0, 1.0), rollout("a", 0, None)], EvalConfig(samples=2))
    assert result["pass@1"] == 1.0
    assert result["pass@2"] is None
    assert not any(isinstance(value, float) and math.isnan(value) for value in result.values())
    rich.print(table({"model": "m", **result}))
