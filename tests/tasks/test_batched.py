"""Batched and asynchronous rewards in real processes: one that fails costs its own rollouts and nothing else."""

import asyncio
import logging
import threading
import time
from typing import Any

import pytest

from groupwise.config import RewardConfig
from groupwise.tasks.scoring import Scorer, all_failed, drops
from groupwise.types import Prompt

from .cases import rollouts, scored, wait_until

pytestmark = pytest.mark.usefixtures("bad_rewards_on_path")


def reward(function: str, name: str = "x", **more: Any) -> RewardConfig:
    return RewardConfig(name=name, function=f"batched_rewards:{function}", **more)


@pytest.mark.parametrize("function", ["lengths", "async_lengths", "async_does"])
def test_a_failure_costs_its_own_rollout(function: str) -> None:
    bad = {
        "sleep": "x: timeout after 0.5 s",
        "exit": "x: died (exit code 3)",
        "raise news": "x: raised ValueError: bad news",
        "nan": "x: returned nan",
        "none": "unscored",
    }
    good = ["a", "ab", "abc"]
    with Scorer([], [reward(function, deadline=0.5)]) as scorer:
        batch = scored(scorer, [*bad, *good])
    assert [r.dropped for r in batch] == [*bad.values(), None, None, None]
    assert [r.reward for r in batch if r.dropped is None] == [1, 2, 3]


@pytest.mark.parametrize(
    ("function", "does"),
    [
        ("lengths", "spin"),
        ("async_lengths", "wait"),
        ("async_does", "spin"),
        ("async_does", "wait"),
        ("async_does", "stubborn"),
        ("async_does", "nap"),
    ],
)
def test_one_hang_in_fifty(function: str, does: str) -> None:
    texts = [does if i == 37 else "x" * (i % 9) for i in range(50)]
    with Scorer([], [reward(function, deadline=0.5)], workers=2) as scorer:
        scorer.ready()
        start = time.perf_counter()
        batch = scored(scorer, texts)
        took = time.perf_counter() - start
    assert drops(batch) == {"x: timeout after 0.5 s": 1}
    assert all(r.reward == len(r.completion.text) for r in batch if not r.dropped)
    assert took < 10  # four calls at most that hang, one inside the other


def test_when_everything_hangs_the_time_is_bounded() -> None:
    with Scorer([], [reward("lengths", deadline=0.1)], workers=2) as scorer:
        scorer.ready()
        start = time.perf_counter()
        batch = scored(scorer, ["spin"] * 256)
        took = time.perf_counter() - start
    assert drops(batch) == {"x: timeout after 0.1 s": 256}
    assert took < 10  # one at a time it would be 13 s and more, with every worker's start


def test_all_rollouts_are_seen_together_whatever_the_number_of_workers() -> None:
    texts = ["abc", "a", "ab", "", "abcd"]
    for workers in (1, 3):
        with Scorer([], [reward("ranks"), reward("async_does", "y")], workers=workers) as scorer:
            batch = scored(scorer, texts)
        assert [r.rewards for r in batch] == [
            {"x": x, "y": len(t)} for x, t in zip([3, 1, 2, 0, 4], texts, strict=True)
        ]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("seven", "x returned 7 values for 16 completions (16 of 16)"),
        ("one_value", "x returned 1 values for 16 completions (16 of 16)"),
        ("mean", "x returned float: 1.0 is not a list (16 of 16)"),
        (
            "needs_solution",
            "x asks for the column 'solution', which no prompt has (columns of the prompts are level) (16",
        ),
    ],
)
def test_a_function_that_is_always_wrong_is_one_clear_line(function: str, words: str) -> None:
    with Scorer([], [reward(function)]) as scorer:
        batch = scored(scorer, ["a"] * 16, metadata={"level": 1})
    assert all_failed(batch, "update 1").startswith(f"every rollout of update 1 failed: {words}")


def test_a_wrong_number_now_and_then_costs_the_rollouts_that_bring_it_about(caplog: pytest.LogCaptureFixture) -> None:
    with Scorer([], [reward("without_blanks")]) as scorer, caplog.at_level(logging.WARNING):
        for _ in range(2):
            batch = scored(scorer, ["a", "b", "", "d", "e", "f"])
            assert [r.dropped is None for r in batch] == [True, True, False, True, True, True]
    words = "returned 5 values for 6 completions in a call of 6 completions; it is called again with parts of them"
    assert [record.getMessage() for record in caplog.records] == [f"reward 'x': {words}"]  # once


def test_many_asynchronous_calls_wait_together() -> None:
    with Scorer([], [reward("async_does", deadline=5.0)], workers=1) as scorer:
        scorer.ready()
        start = time.perf_counter()
        batch = scored(scorer, ["brief"] * 50)
        assert time.perf_counter() - start < 2.5  # one after another: 5 s
    assert all(r.reward == 5 for r in batch)


def test_closures_of_every_form_run_here() -> None:
    threads = set()

    def batched(completions: list[str], **columns: Any) -> list[float | None]:
        threads.add(threading.current_thread().name)
        return [len(c) if c else None for c in completions]

    async def judge(prompt: Prompt, completion: str) -> float:
        threads.add(threading.current_thread().name)
        await asyncio.sleep(60 if completion == "hang" else 0.01)
        return 2.0

    async def batched_judge(prompts: list[str], completions: list[str]) -> list[float]:
        return [await judge(None, completion) for completion in completions]  # type: ignore[arg-type]

    configs = [RewardConfig(name=name, function="any", deadline=0.5) for name in ("batched", "judge", "both")]
    functions = {"batched": batched, "judge": judge, "both": batched_judge}
    with Scorer([], configs, functions=functions) as scorer:
        batch = scored(scorer, ["abc", "", "hang", "ab"])
    assert [r.rewards for r in batch if r.dropped is None] == [
        {"batched": 3, "judge": 2, "both": 2},
        {"judge": 2, "both": 2},
        {"batched": 2, "judge": 2, "both": 2},
    ]
    assert batch[2].dropped == "judge: timeout after 0.5 s"
    assert threads == {"groupwise-reward"}
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == "groupwise-reward"])


def test_a_batched_closure_that_hangs_costs_its_own_rollout() -> None:
    release = threading.Event()

    def batched(completions: list[str]) -> list[float]:
        if "hang" in completions:
            release.wait()
        return [1.0] * len(completions)

    config = [RewardConfig(name="here", function="any", deadline=0.5)]
    with Scorer([], config, functions={"here": batched}) as scorer:
        batch = scored(scorer, ["a", "hang", "b", "c"])
    release.set()
    assert [r.dropped for r in batch] == [None, "here: timeout after 0.5 s", None, None]


def test_a_prompt_that_cannot_be_sent_costs_itself() -> None:
    batch = rollouts(["a", "b", "c", "d"])
    batch[1:2] = rollouts(["b"], metadata={"f": lambda: 1})
    with Scorer([], [reward("lengths")]) as scorer:
        scorer.score(batch)
    assert [r.dropped is None for r in batch] == [True, False, True, True]


def test_a_reward_that_requires_another_is_nothing_without_it() -> None:
    configs = [reward("lengths", "right"), reward("ranks", "style", requires="right", weight=0.5)]
    with Scorer([], configs) as scorer:
        full, part, none = scored(scorer, ["abc", "", "none"])
    assert (full.rewards, full.reward) == ({"right": 3, "style": 1}, 3.5)
    assert (part.rewards, part.reward) == ({"right": 0, "style": 0}, 0)
    assert (none.rewards, none.dropped) == ({}, "unscored")
