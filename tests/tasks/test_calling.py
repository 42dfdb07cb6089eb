"""The forms of reward functions, and what each is given. In this process: failures of processes are elsewhere."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from groupwise.tasks.calling import Answer, Caller, Form, Item, Job, Reply, check, columns_of, form_of
from groupwise.types import Prompt, UserError


def prompt(number: int = 0, **more: Any) -> Prompt:
    return Prompt(**{"id": str(number), "task": "t", "domain": "d", "text": f"question {number}", **more})


def items(*prompts: Prompt) -> tuple[Item, ...]:
    return tuple(Item(p, f"answer {i}", (i, i + 1), version=i) for i, p in enumerate(prompts))


def ask(function: Callable[..., Any], *prompts: Prompt, deadline: float = 5.0) -> Reply:
    given = items(*(prompts or (prompt(0), prompt(1))))
    caller = Caller({"r": function})
    try:
        return caller(Job("r", given, columns_of(given), deadline))
    finally:
        caller.close()


class Judge:
    async def __call__(self, prompt: Prompt, completion: str) -> float:
        return 0.5


async def batched_async(prompts: list[str], completions: list[str]) -> list[float]:
    return [0.5] * len(prompts)


@pytest.mark.parametrize(
    ("function", "form"),
    [
        (lambda prompt, completion: 1.0, (False, False)),
        (lambda *both: 1.0, (False, False)),
        (lambda prompt, completion, **more: 1.0, (False, False)),
        (lambda question, completion_text: 1.0, (False, False)),
        (lambda prompts, completions: [1.0], (True, False)),
        (lambda completions, **columns: [1.0], (True, False)),
        (lambda completion_ids, **columns: [1.0], (True, False)),
        (lambda **columns: [1.0], (True, False)),
        (batched_async, (True, True)),
        (functools.partial(batched_async, prompts=[]), (True, True)),
        (Judge(), (False, True)),
        (max, (False, False)),
    ],
)
def test_the_signature_tells_the_form(function: Callable[..., Any], form: tuple[bool, bool]) -> None:
    check(function, "f")
    assert form_of(function) == Form(*form)


def test_positional_only_parameters_cannot_be_batched() -> None:
    def function(completions: list[str], /) -> list[float]:
        return [1.0]

    with pytest.raises(UserError, match=r"f cannot be called as function\(prompts=..., completions=..., ...\)"):
        check(function, "f")


def seen_by_batched(*prompts: Prompt) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    def function(**columns: Any) -> list[float]:
        seen.update(columns)
        return [1.0] * len(columns["prompts"])

    assert ask(function, *prompts) == [Answer(1.0)] * len(prompts)
    return seen


def test_what_a_batched_function_is_given() -> None:
    first = prompt(0, answer="4", metadata={"level": 1, "source": "book"})
    second = prompt(1, metadata={"level": 2, "prompts": "not these"})
    seen = seen_by_batched(first, second)
    assert seen.pop("trainer_state").global_step == 1
    assert seen.pop("log_extra")("column", [1, 2]) is None
    assert seen.pop("log_metric")("metric", 0.5) is None
    assert seen == {
        "prompts": ["question 0", "question 1"],
        "completions": ["answer 0", "answer 1"],
        "completion_ids": [[0, 1], [1, 2]],
        "answer": ["4", None],
        "level": [1, 2],
        "source": ["book", None],
    }


def test_conversations_are_lists_of_messages() -> None:
    message = {"role": "user", "content": "question"}
    seen = seen_by_batched(prompt(messages=({"role": "system", "content": "be kind"}, message)))
    assert seen["prompts"] == [[{"role": "system", "content": "be kind"}, message]]
    assert seen["completions"] == [[{"role": "assistant", "content": "answer 0"}]]


def test_a_function_without_keywords_is_given_what_it_names() -> None:
    def function(completions: list[str], answer: list[str], style: str = "plain") -> list[float]:
        assert style == "plain"
        return [float(a) for a in answer]

    assert ask(function, prompt(answer="4"), prompt(answer="5")) == [Answer(4.0), Answer(5.0)]


def test_a_column_that_no_prompt_has_is_named() -> None:
    def function(completions: list[str], solution: list[str], **columns: Any) -> list[float]:
        return [1.0]

    words = "asks for the column 'solution', which no prompt has (columns of the prompts are level, answer)"
    assert ask(function, prompt(answer="4", metadata={"level": 1})) == Answer(failure=words)


def test_columns_are_those_of_the_whole_update_in_a_call_with_a_part() -> None:
    caller = Caller({"r": lambda completions, solution: [0.0 if solution == [None] else 1.0]})
    assert caller(Job("r", items(prompt()), ("solution",), 1.0)) == [Answer(0.0)]


@pytest.mark.parametrize(
    ("returned", "reply"),
    [
        ([1, None], [Answer(1.0), Answer()]),
        ((True, 0.5), [Answer(1.0), Answer(0.5)]),
        (iter([1.0, 2.0]), [Answer(1.0), Answer(2.0)]),
        (["1", float("nan")], [Answer(failure="returned str: '1' is not a number"), Answer(failure="returned nan")]),
        ([1.0] * 7, Answer(failure="returned 7 values for 2 completions", miscounted=True)),
        ([], Answer(failure="returned 0 values for 2 completions", miscounted=True)),
        (0.5, Answer(failure="returned float: 0.5 is not a list")),
        (None, Answer(failure="returned NoneType: None is not a list")),
        ("ab", Answer(failure="returned str: 'ab' is not a list")),
    ],
)
def test_what_a_batched_function_may_return(returned: Any, reply: Reply) -> None:
    assert ask(lambda completions: returned) == reply


def test_arrays_are_lists() -> None:
    assert ask(lambda completions: np.array([1, 2])) == [Answer(1.0), Answer(2.0)]


def test_asynchronous_functions_of_each_form() -> None:
    async def single(prompt: Prompt, completion: str) -> float | None:
        return None if completion == "answer 1" else float(completion == "answer 0")

    assert ask(single) == [Answer(1.0), Answer()]
    assert ask(lambda *both: single(*both), prompt()) == [Answer(1.0)]  # noqa: PLW0108
    assert ask(batched_async) == [Answer(0.5), Answer(0.5)]
    assert ask(lambda completions: batched_async([], completions)).failure == "returned 0 values for 2 completions"  # type: ignore[union-attr]
    assert ask(Judge()) == [Answer(0.5), Answer(0.5)]


def test_each_asynchronous_call_has_its_own_failure() -> None:
    import asyncio

    async def function(prompt: Prompt, completion: str) -> float:
        match completion:
            case "answer 1":
                await asyncio.sleep(60)
            case "answer 2":
                raise TimeoutError("of its own")
            case "answer 3":
                raise SystemExit("enough")
            case "answer 4":
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    return 1.0
            case "answer 5":
                raise MemoryError
        return 2.0

    assert ask(function, *map(prompt, range(7)), deadline=0.2) == [
        Answer(2.0),
        Answer(failure="timeout after 0.2 s"),
        Answer(failure="raised TimeoutError: of its own"),
        Answer(failure="raised SystemExit: enough"),
        Answer(failure="timeout after 0.2 s"),
        Answer(failure="raised MemoryError", spent=True),
        Answer(2.0),
    ]


def test_one_event_loop_serves_all_calls() -> None:
    """Clients of a judge are bound to the loop that they were made in."""
    import asyncio

    loops = set()

    async def function(prompt: Prompt, completion: str) -> float:
        loops.add(asyncio.get_running_loop())
        return 1.0

    caller = Caller({"r": function})
    for _ in range(3):
        caller(Job("r", items(prompt()), (), 1.0))
    caller.close()
    assert len(loops) == 1


def test_who_blocks_the_event_loop_is_not_paid_for_by_the_others() -> None:
    import asyncio
    import time

    async def function(prompt: Prompt, completion: str) -> float:
        await asyncio.sleep(0.01)
        if completion == "answer 0":
            time.sleep(0.3)
        await asyncio.sleep(0.01)
        return 1.0

    assert ask(function, *map(prompt, range(3)), deadline=0.2) == Answer(failure="blocked the event loop")
