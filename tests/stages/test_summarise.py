"""Rates from outcomes: what is dropped is counted and left out, whole tasks included; gains are paired by prompt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from groupwise.config import EvalConfig
from groupwise.stages.summarise import compare, held_out_metrics, is_graded, sizes, summarise
from groupwise.types import Completion, Prompt, Rollout


def rollout(task: str, number: int, reward: float | None, answer: str = "") -> Rollout:
    prompt = Prompt(id=f"{task}{number}", task=task, domain="d", text="?")
    completion = Completion(token_ids=(1, 2), logprobs=(0.0, 0.0), text=answer, finish_reason="stop", policy_version=0)
    if reward is None:
        return Rollout(prompt=prompt, completion=completion, dropped="accuracy: timeout")
    return Rollout(prompt=prompt, completion=completion, rewards={"accuracy": reward}, reward=reward)


def measured(rollouts: Sequence[Rollout], samples: int = 1) -> dict[str, Any]:
    result = summarise(rollouts, EvalConfig(samples=samples))
    json.dumps(result, allow_nan=False)
    return result


def rights(task: str, *outcomes: float) -> list[Rollout]:
    """One prompt an outcome."""
    return [rollout(task, number, outcome) for number, outcome in enumerate(outcomes)]


def test_rates_are_means_over_prompts_and_then_over_tasks() -> None:
    result = measured([*rights("a", 1, 1, 1, 0), *rights("b", 0, 0)])
    assert result["by_task"] == {"a": 0.75, "b": 0.0}
    assert result["by_task_prompts"] == {"a": 4, "b": 2}
    assert (result["pass@1"], result["prompts"], result["dropped_rollouts"]) == (0.375, 6, 0)
    low, high = result["pass@1_interval"]
    assert 0 <= low < 0.375 < high <= 1
    assert not [key for key in result if key.startswith("maj")]


def test_one_task_has_the_interval_of_all() -> None:
    result = measured(rights("a", 0, 0, 0))
    assert result["pass@1_interval"] == pytest.approx(result["by_task_interval"]["a"])
    assert result["pass@1_interval"][1] > 0.3  # none of three


def test_the_mean_reward_stands_beside_where_rewards_have_grades() -> None:
    result = measured([*rights("a", 0.5, 0.25, 1), rollout("a", 2, 0.0), *rights("b", 0.25)])
    assert result["by_task_reward"] == pytest.approx({"a": (0.5 + 0.25 + 0.5) / 3, "b": 0.25})
    assert result["reward"] == pytest.approx((1.25 / 3 + 0.25) / 2)
    assert held_out_metrics(result)["eval/reward"] == result["reward"]
    assert is_graded(result)
    plain = measured(rights("a", 1, 0, 1 - 1e-9))
    assert not is_graded(plain)
    assert plain["reward"] == pytest.approx(plain["pass@1"])
    assert not is_graded(measured([]))


def test_almost_right_is_wrong() -> None:
    assert measured(rights("a", 0.999, 1 - 1e-9))["pass@1"] == 0.5


def test_a_task_whose_every_rollout_was_dropped_is_left_out() -> None:
    result = measured([rollout("a", 0, 1.0), rollout("a", 0, 0.0), *[rollout("b", 0, None)] * 2], samples=2)
    assert result["pass@1"] == 0.5
    assert result["pass@2"] == 1.0
    assert list(result["by_task"]) == list(result["by_task_pass@2"]) == ["a"]
    assert result["dropped_rollouts"] == 2


def test_pass_and_majority_need_k_completions_of_a_prompt() -> None:
    result = measured([rollout("a", 0, 1.0), rollout("a", 0, None)], samples=2)
    assert result["pass@1"] == 1.0
    for name in ("pass@2", "pass@2_interval", "maj@2", "maj@2_interval"):
        assert result[name] is None
    assert result["by_task_maj@2"] == {}


def test_a_majority_may_outvote_a_right_answer_or_a_wrong_one() -> None:
    votes = {0: ("4 4 5", "1 1 0"), 1: ("4 5 5", "1 0 0"), 2: ("4.0 4 7", "1 1 0")}
    rollouts = [
        rollout("a", number, float(score), f"<answer>{answer}</answer>")
        for number, (answers, scores) in votes.items()
        for answer, score in zip(answers.split(), scores.split(), strict=True)
    ]
    result = measured(rollouts, samples=3)
    assert result["pass@1"] == result["maj@2"] == pytest.approx(5 / 9)
    assert result["maj@3"] == pytest.approx(2 / 3)
    assert result["pass@3"] == 1
    assert result["by_task_maj@3_interval"]["a"][0] < 2 / 3 < result["by_task_maj@3_interval"]["a"][1]


def test_nothing_was_measured() -> None:
    result = measured([], samples=2)
    assert result["pass@1"] is result["pass@1_interval"] is result["maj@2"] is result["length_mean"] is None
    assert (result["by_task"], result["prompts"]) == ({}, 0)
    assert held_out_metrics(result) == held_out_metrics(None) == {}
    gain = compare(result, result)
    assert gain is not None
    assert gain["pass@1"] is gain["interval"] is None
    assert compare(None, result) is compare(result, None) is None


def test_the_sizes() -> None:
    assert [sizes(n) for n in (1, 2, 3, 8, 12)] == [[1], [1, 2], [1, 2, 3], [1, 2, 4, 8], [1, 2, 4, 8, 12]]


def test_a_row_of_metrics() -> None:
    result = measured([*rights("a", 1), *rights("b", 0)])
    rates = {"eval/pass@1": 0.5, "eval/a/pass@1": 1.0, "eval/b/pass@1": 0.0}
    assert held_out_metrics(result) == rates | {"eval/reward": 0.5}


def test_domains_of_a_task() -> None:
    one, other = rights("a", 1, 0)
    other.prompt = Prompt(id="x", task="a", domain="e", text="?")
    assert measured([one])["domains"] == {"a": "d"}
    assert measured([one, other])["domains"] == {"a": "several"}


def test_gains_are_paired_by_prompt() -> None:
    """As many right before as after is no change, but two changes; the pairing narrows the interval of a real gain."""
    easy, hard = [1.0] * 50, [0.0] * 50
    before, after = measured(rights("a", *easy, *hard)), measured(rights("a", *easy, *[1.0] * 10, *hard[10:]))
    gain = compare(before, after)
    assert gain is not None
    json.dumps(gain, allow_nan=False)
    assert gain["pass@1"] == gain["by_task"]["a"] == pytest.approx(0.1)
    low, high = gain["interval"]
    assert 0 < low < 0.1 < high
    unpaired = before["pass@1_interval"][1] - before["pass@1_interval"][0]
    assert high - low < unpaired
    assert gain["by_task_interval"]["a"] == pytest.approx(gain["interval"]) == gain["pass@1_interval"]
    turned = compare(after, before)
    assert turned is not None
    assert turned["interval"] == pytest.approx([-high, -low])


def test_only_what_both_have_is_compared() -> None:
    before = measured([*rights("a", 0, 1), *rights("b", 0)])
    after = measured([rollout("a", 0, 1.0), rollout("a", 1, None), *rights("c", 1)])
    gain = compare(before, after)
    assert gain is not None
    assert (gain["pass@1"], gain["by_task"]) == (1.0, {"a": 1.0})


def test_majorities_are_compared_too() -> None:
    def made(*answers: str) -> dict[str, Any]:
        return measured([rollout("a", 0, float(x == "4"), x) for x in answers], samples=3)

    gain = compare(made("4", "5", "5"), made("4", "4", "5"))
    assert gain is not None
    assert gain["maj@3"] == 1.0
    assert gain["pass@3"] == 0.0
    assert gain["by_task_maj@3"] == {"a": 1.0}
