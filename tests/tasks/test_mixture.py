"""Several tasks in one stream: the shares asked for, and every prompt in its turn after a crash."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupwise.config import TaskConfig
from groupwise.tasks.load import load_task
from groupwise.tasks.mixture import Mixture, held_out_prompts
from groupwise.types import Prompt, UserError

weights = st.lists(st.floats(0.01, 100), min_size=1, max_size=12)


class Numbers:
    """A task whose prompts are numbers, up to `size` of them."""

    domain = "counting"

    def __init__(self, name: str, size: int = 10**9) -> None:
        self.name, self.size = name, size

    def stream(self, seed: int, *, held_out: bool, cursor: int = 0) -> Any:
        return NumberStream(self, seed, cursor)

    def score(self, prompt: Prompt, completion: str) -> float:
        return 0.0


class NumberStream:
    def __init__(self, task: Numbers, seed: int, cursor: int) -> None:
        self.task, self.seed, self.cursor = task, seed, cursor

    def __iter__(self) -> NumberStream:
        return self

    def __next__(self) -> Prompt:
        if self.cursor >= self.task.size:
            raise StopIteration
        self.cursor += 1
        text = f"{self.task.name} {self.seed} {self.cursor}"
        return Prompt(id=text, task=self.task.name, domain="counting", text=text)


def mixture(shares: Sequence[float], seed: int = 0, **more: Any) -> Mixture:
    return Mixture([Numbers(str(i), **more) for i in range(len(shares))], shares, seed)


def drawn(mixed: Mixture, count: int) -> list[str]:
    return [prompt.text for prompt in mixed.draw(count)]


@given(weights, st.integers(1, 200))
def test_every_prefix_has_the_shares(shares: list[float], count: int) -> None:
    counts = Counter(prompt.task for prompt in mixture(shares).draw(count))
    for i, share in enumerate(shares):
        wanted = count * share / sum(shares)
        assert abs(counts[str(i)] - wanted) <= max(1.0, len(shares) / 2) + 1e-6
        if len(shares) <= 2:
            assert abs(counts[str(i)] - wanted) <= 0.5 + 1e-6


def test_equal_weights_take_turns() -> None:
    tasks = [prompt.task for prompt in mixture([1, 1, 1]).draw(9)]
    assert [sorted(tasks[start : start + 3]) for start in (0, 3, 6)] == [["0", "1", "2"]] * 3


def test_weights_are_relative() -> None:
    assert drawn(mixture([1, 3]), 40) == drawn(mixture([10, 30]), 40)
    assert Counter(prompt.task for prompt in mixture([1, 3]).draw(400)) == {"0": 100, "1": 300}


def test_the_seed_chooses_the_prompts() -> None:
    assert drawn(mixture([1, 2], seed=5), 3) != drawn(mixture([1, 2], seed=6), 3)


@given(weights, st.integers(0, 60), st.integers(0, 60))
def test_a_restored_mixture_goes_on_as_the_first_one(shares: list[float], before: int, after: int) -> None:
    first, second = mixture(shares, seed=7), mixture(shares, seed=7)
    drawn(first, before)
    second.load_state(first.state())
    assert drawn(second, after) == drawn(first, after)


def test_a_state_does_not_change_behind_one_s_back() -> None:
    mixed = mixture([1, 2])
    state = mixed.state()
    first = drawn(mixed, 5)
    mixed.load_state(state)
    assert drawn(mixed, 5) == first
    assert state == mixture([1, 2]).state()


def test_a_real_task_goes_on_as_well() -> None:
    def made() -> Mixture:
        return Mixture([load_task(TaskConfig(name=name)) for name in ("chain_sum", "gcd")], [1, 1], 3)

    first, second = made(), made()
    drawn(first, 7)
    second.load_state(first.state())
    assert drawn(second, 7) == drawn(first, 7)


def test_no_tasks() -> None:
    with pytest.raises(UserError, match="tasks: the recipe names none; add at least one"):
        Mixture([], [], 0)


def test_a_task_that_runs_out_is_named() -> None:
    mixed = mixture([1, 1], size=3)
    drawn(mixed, 6)
    with pytest.raises(UserError, match="task 0: has no prompts to train on"):
        mixed.draw(1)


def test_held_out_prompts_by_task() -> None:
    prompts = held_out_prompts([Numbers("a"), Numbers("b")], 3, seed=9)
    assert [prompt.text for prompt in prompts] == ["a 9 1", "a 9 2", "a 9 3", "b 9 1", "b 9 2", "b 9 3"]


def test_too_few_held_out_prompts() -> None:
    with pytest.raises(UserError, match=r"task a: has only 3 held-out prompts, eval.prompts asks for 4"):
        held_out_prompts([Numbers("a", size=3)], 4, seed=9)


def test_of_a_finite_task_what_is_there() -> None:
    few, none = Numbers("a", size=3), Numbers("b", size=0)
    few.finite = none.finite = True
    assert [prompt.text for prompt in held_out_prompts([few, none], 4, seed=9)] == ["a 9 1", "a 9 2", "a 9 3"]
