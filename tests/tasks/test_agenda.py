"""What is called, and what is called again: with a worker of one line in place of processes."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupwise.tasks.agenda import MOST_FAILURES, Agenda
from groupwise.tasks.calling import CONCURRENT, Answer, Form, Item, Reply
from groupwise.types import Prompt

BATCHED, SINGLE, CONCURRENTLY = Form(True, False), Form(False, False), Form(False, True)
Worker = Callable[[tuple[int, ...]], Reply]


def run(count: int, worker: Worker, form: Form = BATCHED) -> tuple[list[Answer], list[tuple[int, ...]]]:
    """The answers to rows 0, 1, ..., and the rows of each call that was made."""
    blank = Prompt(id="p", task="t", domain="d", text="")
    agenda = Agenda([Item(blank, str(row)) for row in range(count)], {"r": form}, {"r": 1.0})
    calls = []
    while agenda:
        call = agenda.take()
        calls.append(call.rows)
        assert [item.completion for item in agenda.job(call).items] == [str(row) for row in call.rows]
        agenda.settle(call, worker(call.rows))
    agenda.finish("no worker")
    return [answers["r"] for answers in agenda.answers], calls


def failing(bad: set[int], failure: str = "timeout after 1 s") -> Worker:
    return lambda rows: Answer(failure=failure) if bad & set(rows) else [Answer(float(row)) for row in rows]


@given(st.data(), st.integers(1, 300))
def test_who_fails_pays_alone(data: st.DataObject, count: int) -> None:
    bad = data.draw(st.sets(st.integers(0, count - 1), max_size=count // 50 + 1))
    answers, calls = run(count, failing(bad))
    if len(bad) < count:
        assert [row for row, answer in enumerate(answers) if answer.failure] == sorted(bad)
        assert all(answer.value == row for row, answer in enumerate(answers) if not answer.failure)
    assert len(calls) <= 1 + 25 * len(bad)


@pytest.mark.parametrize("block", [0, 1, 7])
def test_a_whole_group_may_fail(block: int) -> None:
    bad = set(range(block * 16, block * 16 + 16))
    answers, _ = run(128, failing(bad))
    assert {row for row, answer in enumerate(answers) if answer.failure} == bad


def test_hope_is_not_given_up_for_one_bad_part() -> None:
    bad = {*range(32), *range(31, 256, 32)}  # all of the first part, and one of each other
    answers, _ = run(256, failing(bad))
    assert {row for row, answer in enumerate(answers) if answer.failure} == bad


@pytest.mark.parametrize("count", [1, 2, 3, 16, 128, 1000])
def test_when_everything_fails_few_calls_are_made(count: int) -> None:
    answers, calls = run(count, failing(set(range(count))))
    assert answers == [Answer(failure="timeout after 1 s")] * count
    assert calls[0] == tuple(range(count))
    assert len(calls) <= MOST_FAILURES + 8


def counting(returned: Callable[[int], int]) -> Worker:
    def worker(rows: tuple[int, ...]) -> Reply:
        count = returned(len(rows))
        if count == len(rows):
            return [Answer(1.0)] * count
        return Answer(failure=f"returned {count} values for {len(rows)} completions", miscounted=True)

    return worker


@pytest.mark.parametrize("count", [2, 3, 4, 16, 128])
@pytest.mark.parametrize("returned", [lambda n: 7, lambda n: 1, lambda n: n - 1, lambda n: 0])
def test_a_function_that_cannot_count_is_not_trusted_with_one(count: int, returned: Callable[[int], int]) -> None:
    answers, _ = run(count, counting(returned))
    assert (
        answers
        == [Answer(failure=f"returned {returned(count)} values for {count} completions", miscounted=True)] * count
    )


def test_a_function_that_miscounts_now_and_then_pays_for_that() -> None:
    def worker(rows: tuple[int, ...]) -> Reply:
        return counting(lambda n: n - (5 in rows))(rows)

    answers, _ = run(16, worker)
    assert [row for row, answer in enumerate(answers) if answer.failure] == [5]
    assert answers[5].failure == "returned 0 values for 1 completions"


def test_single_calls_are_never_given_up() -> None:
    answers, calls = run(40, failing(set(range(39))), SINGLE)
    assert calls == [(row,) for row in range(40)]
    assert answers[39] == Answer(39.0)


def test_concurrent_calls_have_a_limit() -> None:
    answers, calls = run(2 * CONCURRENT + 1, failing({3}), CONCURRENTLY)
    assert sorted(map(len, calls[:3])) == [1, CONCURRENT, CONCURRENT]
    assert [row for row, answer in enumerate(answers) if answer.failure] == [3]


def test_every_reward_has_its_answers_where_no_worker_is_left() -> None:
    blank = Prompt(id="p", task="t", domain="d", text="")
    agenda = Agenda([Item(blank, "")] * 3, {"a": SINGLE, "b": BATCHED}, {"a": 1.0, "b": 1.0})
    call = agenda.take()
    assert call.rows == (0, 1, 2)  # the widest first
    agenda.put_back(call)
    agenda.finish("no worker")
    assert agenda.answers == [{name: Answer(failure="no worker") for name in "ab"}] * 3
