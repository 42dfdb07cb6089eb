"""How a reward function is called: its form, told by its signature, and all that may come back or go wrong.

| form | signature | called |
|---|---|---|
| single | `f(prompt, completion) -> float or None` | once a rollout, with a `Prompt` and the completion's text |
| concurrent | `async def f(prompt, completion)` | the same, `CONCURRENT` rollouts at a time in one event loop |
| batched | `f(prompts, completions, **columns) -> [N]`, async or not | once an update, by keywords, with all N |

A function is batched when one of its parameters is named prompts, completions or completion_ids, or when it takes
nothing but `**keywords`. That is how TRL (1.16, GRPOTrainer) calls reward functions, and one written for it runs
unchanged. It gets, as far as it names them or takes `**keywords`:

    prompts         [N] texts, or lists of messages where the prompt has messages
    completions     [N] texts, or [{"role": "assistant", "content": text}] where the prompt has messages
    completion_ids  [N] lists of token ids
    <column>        [N] for each key of the metadata, and `answer`, which is Prompt.answer where there is one; None
                    where a prompt has no such key
    trainer_state   `global_step` alone: the number of updates that the policy had seen
    log_extra, log_metric   functions that do nothing
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsFloat

from groupwise.types import Prompt, UserError

if TYPE_CHECKING:
    import asyncio

CONCURRENT = 64  # calls of an asynchronous function that wait at the same time
_BATCHED = {"prompts", "completions", "completion_ids"}


class Item(NamedTuple):
    """What there is to be scored of a rollout."""

    prompt: Prompt
    completion: str
    completion_ids: tuple[int, ...] = ()
    version: int = 0  # updates that the policy had seen


class Job(NamedTuple):
    """One call of one reward; `columns` are those of the whole update, whatever part of it `items` are."""

    reward: str
    items: tuple[Item, ...]
    columns: tuple[str, ...]
    deadline: float  # seconds


class Answer(NamedTuple):
    """What became of an item. With neither value nor failure the reward does not apply."""

    value: float | None = None
    failure: str | None = None
    spent: bool = False  # the worker ran out of memory and should be replaced, or every later call would fail too
    miscounted: bool = False  # a batched function returned more or fewer values than it was given completions


Reply = list[Answer] | Answer  # one answer an item; or one failure of the call as a whole


class Form(NamedTuple):
    batched: bool
    asynchronous: bool


def form_of(function: Callable[..., Any]) -> Form:
    """How `function` wants to be called."""
    parameters = _parameters(function)
    keywords_only = bool(parameters) and all(p.kind is p.VAR_KEYWORD for p in parameters.values())
    inner: Any = function
    while isinstance(inner, partial):
        inner = inner.func
    asynchronous = any(map(inspect.iscoroutinefunction, (inner, getattr(inner, "__call__", None))))  # noqa: B004
    return Form(keywords_only or not _BATCHED.isdisjoint(parameters), asynchronous)


def check(function: Any, name: str) -> None:
    """Refuse at the start what every call would refuse."""
    if not callable(function):
        raise UserError(f"{name} is not a function but a {type(function).__name__}")
    if form_of(function).batched:
        if any(p.kind is p.POSITIONAL_ONLY for p in _parameters(function).values()):
            raise UserError(f"{name} cannot be called as function(prompts=..., completions=..., ...) by keywords")
        return
    with suppress(ValueError):  # built in, without a signature
        try:
            inspect.signature(function).bind(None, None)
        except TypeError as error:
            raise UserError(f"{name} cannot be called as function(prompt, completion): {error}") from None


def columns_of(items: Iterable[Item]) -> tuple[str, ...]:
    """Names of the columns that batched functions get: `answer`, where a prompt has one, and the metadata's keys."""
    names: dict[str, None] = {}
    for item in items:
        names |= dict.fromkeys(item.prompt.metadata)
        if item.prompt.answer is not None:
            names["answer"] = None
    return tuple(names)


class Caller:
    """Calls functions by name and turns all that may go wrong into words. Keeps one event loop for those that need it.

    SystemExit and KeyboardInterrupt are failures like others. Asynchronous calls are cancelled at their deadline; for
    all others whoever waits for the reply must see to it.
    """

    def __init__(self, functions: Mapping[str, Callable[..., Any]]) -> None:
        self._functions = functions
        self.forms = {name: form_of(function) for name, function in functions.items()}
        self._runner: asyncio.Runner | None = None

    def __call__(self, job: Job) -> Reply:
        """The answers to the job's items."""
        function, form = self._functions[job.reward], self.forms[job.reward]
        try:
            if form.batched:
                result = self._result(function(**_keywords(function, job)), job.deadline)
                return _read_all(result, len(job.items))
            if form.asynchronous:
                reply: Reply = self._run(_together(function, job.items, job.deadline))
                return reply
            (item,) = job.items
            return [_read(self._result(function(item.prompt, item.completion), job.deadline))]
        except BaseException as error:
            return _failure(error)

    def _result(self, result: Any, deadline: float) -> Any:
        return self._run(_within(result, deadline)) if inspect.isawaitable(result) else result

    def _run(self, coroutine: Any) -> Any:
        if self._runner is None:
            import asyncio

            self._runner = asyncio.Runner()
        return self._runner.run(coroutine)

    def close(self) -> None:
        """Cancel what still runs in the event loop, and end it."""
        if self._runner is not None:
            self._runner.close()


class _TimedOutError(Exception):
    """A deadline of ours, not one of the function's own."""


async def _within(result: Awaitable[Any], deadline: float) -> Any:
    import asyncio

    clock = asyncio.get_running_loop().time
    due = clock() + deadline
    try:
        async with asyncio.timeout_at(due) as limit:
            value = await result
    except TimeoutError:
        if not limit.expired():
            raise
    if limit.expired() or clock() > due:  # also where it swallowed the cancellation, or left the loop no turn for it
        raise _TimedOutError(f"timeout after {deadline:g} s")
    return value


async def _together(
    function: Callable[..., Awaitable[Any]], items: Sequence[Item], deadline: float
) -> list[Answer] | Answer:
    """All items at once, each with its own deadline."""
    import asyncio

    loop, beat, late = asyncio.get_running_loop(), deadline / 10, 0.0

    async def listen() -> None:
        nonlocal late
        while True:
            start = loop.time()
            await asyncio.sleep(beat)
            late = max(late, loop.time() - start - beat)

    async def one(item: Item) -> Answer:
        try:
            return _read(await _within(function(item.prompt, item.completion), deadline))
        except BaseException as error:
            return _failure(error)

    pulse = asyncio.create_task(listen())
    try:
        answers = await asyncio.gather(*map(one, items))
    finally:
        pulse.cancel()
    # one that computes or sleeps without awaiting keeps all others waiting: they must not pay for it
    if len(items) > 1 and late > deadline / 2 and any((a.failure or "").startswith("timeout") for a in answers):
        return Answer(failure="blocked the event loop")
    return answers


def _keywords(function: Callable[..., Any], job: Job) -> dict[str, Any]:
    """What a batched function gets; raises TypeError naming a column that it asks for and that no prompt has."""
    everything: dict[str, Any] = {name: [_column(item.prompt, name) for item in job.items] for name in job.columns}
    everything |= {
        "prompts": [list(map(dict, i.prompt.messages)) or i.prompt.text for i in job.items],
        "completions": [
            [{"role": "assistant", "content": i.completion}] if i.prompt.messages else i.completion for i in job.items
        ],
        "completion_ids": [list(item.completion_ids) for item in job.items],
        "trainer_state": SimpleNamespace(global_step=max(item.version for item in job.items)),
        "log_extra": _ignore,
        "log_metric": _ignore,
    }
    parameters = _parameters(function).values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if missing := [name for name in needed if name not in everything]:
        there = ", ".join(job.columns) or "none"
        raise _NoColumnError(
            f"asks for the column {missing[0]!r}, which no prompt has (columns of the prompts are {there})"
        )
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return everything
    return {p.name: everything[p.name] for p in parameters if p.name in everything}


class _NoColumnError(TypeError):
    """A batched function asks for a column that there is not."""


def _column(prompt: Prompt, name: str) -> Any:
    return prompt.answer if name == "answer" and prompt.answer is not None else prompt.metadata.get(name)


def _ignore(*_: Any, **__: Any) -> None:
    """Take what TRL would log."""


def _read_all(result: Any, count: int) -> Reply:
    if isinstance(result, str | bytes | Mapping) or not isinstance(result, Iterable):
        return Answer(failure=f"returned {_said(result)} is not a list")
    values = list(result)
    if len(values) != count:
        return Answer(failure=f"returned {len(values)} values for {count} completions", miscounted=True)
    return [_read(value) for value in values]


def _read(result: Any) -> Answer:
    if result is None:
        return Answer()
    if not isinstance(result, SupportsFloat):  # a string is none: "1" is more likely a mistake than a score
        return Answer(failure=f"returned {_said(result)} is not a number")
    try:
        value = float(result)
    except Exception as error:
        return Answer(failure=f"returned {_said(result)} is not a number ({line(error)})")
    return Answer(value) if math.isfinite(value) else Answer(failure=f"returned {value}")


def _said(result: Any) -> str:
    return f"{type(result).__name__}: {repr(result)[:60]}"


def _failure(error: BaseException) -> Answer:
    if isinstance(error, _TimedOutError | _NoColumnError):
        return Answer(failure=str(error))
    return Answer(failure=f"raised {line(error)}", spent=isinstance(error, MemoryError))


def line(error: BaseException) -> str:
    """Type and message of an error, short and on one line."""
    try:
        message = " ".join(str(error).split())[:200]
    except Exception:  # an error's own __str__ may fail
        message = ""
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # built in, without a signature
        return {}
