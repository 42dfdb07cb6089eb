"""TRL's own reward functions, unchanged."""

from typing import Any

import pytest

from groupwise.config import RewardConfig
from groupwise.tasks.scoring import Scorer
from groupwise.types import Completion, Prompt, Rollout

pytest.importorskip("trl")

ANSWERS = [r"It is \boxed{\frac{1}{3}}.", r"<think>Hm.</think> It is \boxed{\frac{1}{2}}.", "No idea."]


def conversations(texts: list[str], **metadata: Any) -> list[Rollout]:
    return [
        Rollout(
            prompt=Prompt(
                id=str(i),
                task="t",
                domain="d",
                text="A third?",
                messages=({"role": "user", "content": "A third?"},),
                metadata=metadata,
            ),
            completion=Completion(
                token_ids=(1, 2, 3, 4) * (i + 1), logprobs=(), text=text, finish_reason="stop", policy_version=0
            ),
        )
        for i, text in enumerate(texts)
    ]


def trl_reward(name: str) -> RewardConfig:
    return RewardConfig(name=name, function=f"trl.rewards:{name}", deadline=20)


def test_named_in_a_recipe() -> None:
    from trl.rewards import accuracy_reward, think_format_reward

    pytest.importorskip("math_verify")
    with Scorer([], [trl_reward("accuracy_reward"), trl_reward("think_format_reward")], workers=1) as scorer:
        scorer.score(batch := conversations(ANSWERS, solution=r"\frac{1}{3}"))
        scorer.score(unscored := conversations(ANSWERS[:1], solution="what the teacher said"))
    messages = [[{"role": "assistant", "content": text}] for text in ANSWERS]
    expected = accuracy_reward(messages, solution=[r"\frac{1}{3}"] * len(ANSWERS))
    assert [r.rewards["accuracy_reward"] for r in batch] == expected == [1.0, 0.0, 0.0]
    assert [r.rewards["think_format_reward"] for r in batch] == think_format_reward(messages) == [0.0, 1.0, 0.0]
    assert unscored[0].rewards == {"think_format_reward": 0.0}


def test_objects_given_from_python() -> None:
    from trl.rewards import get_repetition_penalty_reward, get_soft_overlong_punishment, think_format_reward

    functions = {
        "overlong": get_soft_overlong_punishment(max_completion_len=10, soft_punish_cache=4),
        "repetition": get_repetition_penalty_reward(ngram_size=2),
        "format": think_format_reward,
    }
    with Scorer([], [], functions=functions) as scorer:
        scorer.score(batch := conversations(ANSWERS))
    assert [r.rewards["overlong"] for r in batch] == [0.0, -0.5, -1.0]
    assert [r.rewards["repetition"] for r in batch] == [0.0, pytest.approx(-3 / 7), pytest.approx(-7 / 11)]
    assert [r.rewards["format"] for r in batch] == [0.0, 1.0, 0.0]


def test_asynchronous_functions_are_awaited() -> None:
    async def judge(prompts: list[Any], completions: list[Any], trainer_state: Any, **columns: Any) -> list[float]:
        assert trainer_state.global_step == 0
        columns["log_metric"]("judged", len(prompts))
        return [float(len(completion[0]["content"])) for completion in completions]

    with Scorer([], [], functions={"judge": judge}) as scorer:
        scorer.score(batch := conversations(ANSWERS))
    assert [r.reward for r in batch] == [len(text) for text in ANSWERS]
