"""What runs inside a worker: load the rewards once, then answer one call after another. Imports no torch."""

from __future__ import annotations

import importlib
import inspect
import math
import os
import pickle
import pkgutil
import random
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, SupportsFloat

from groupwise.config import TaskConfig
from groupwise.types import Prompt, RewardFunction, UserError


@dataclass(frozen=True, kw_only=True)
class Charge:
    """What a worker is born with."""

    functions: Mapping[str, str]  # reward's name -> "task" or "module:function", in the recipe's order
    tasks: Sequence[TaskConfig] = ()
    memory: int = 0  # bytes of data a worker may hold; 0: no limit


class Job(NamedTuple):
    """One call of one reward."""

    reward: str
    prompt: Prompt
    completion: str


class Answer(NamedTuple):
    """What became of a job. With neither value nor failure the reward does not apply."""

    value: float | None = None
    failure: str | None = None
    spent: bool = False  # the worker ran out of memory and should be replaced, or every later call would fail too


def work(connection: Connection, charge: Charge) -> None:
    """Load, report, serve until the other end closes. While loading, each reward's name is sent before its turn."""
    functions: dict[str, RewardFunction] = {}
    failures: dict[str, str] = {}
    for name, function in charge.functions.items():
        connection.send(name)
        try:
            functions[name] = load(function, charge.tasks)
        except UserError as error:
            failures[name] = str(error)
    connection.send(failures)
    born = os.getpid()
    while True:
        try:
            data = connection.recv_bytes()
        except EOFError:
            return
        answer = _answer(functions, data)
        if os.getpid() != born:  # a fork of the reward's own that came back here: it must not answer in our name
            os._exit(1)
        connection.send(answer)


def _answer(functions: Mapping[str, RewardFunction], data: bytes) -> Answer:
    try:
        job: Job = pickle.loads(data)
        _seed(job)
    except Exception as error:
        return Answer(failure=f"prompt cannot be read in the worker: {_line(error)}")
    return call(functions[job.reward], job)


def _seed(job: Job) -> None:
    """A reward that draws at random gives a rollout the same value whichever worker it meets, and in whatever order."""
    seed = zlib.crc32(f"{job.prompt.id}\n{job.completion}".encode(errors="replace"))
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)


def call(function: RewardFunction, job: Job) -> Answer:
    """Call, and turn all that may go wrong into words; SystemExit and KeyboardInterrupt are failures like others."""
    try:
        result: Any = function(job.prompt, job.completion)
        if result is None:
            return Answer()
        if not isinstance(result, SupportsFloat):  # a string is none: "1" is more likely a mistake than a score
            return Answer(failure=f"returned {type(result).__name__}: {repr(result)[:60]} is not a number")
        value = float(result)
    except MemoryError as error:
        return Answer(failure=f"raised {_line(error)}", spent=True)
    except BaseException as error:
        return Answer(failure=f"raised {_line(error)}")
    return Answer(value) if math.isfinite(value) else Answer(failure=f"returned {value}")


def _line(error: BaseException) -> str:
    """Type and message of an error, short and on one line."""
    try:
        message = " ".join(str(error).split())[:200]
    except Exception:  # an error's own __str__ may fail
        message = ""
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def load(function: str, tasks: Sequence[TaskConfig]) -> RewardFunction:
    """The callable that `function` names. Raises UserError in words that lead to the mistake."""
    try:
        return _task_scorer(tasks) if function == "task" else _named(function)
    except UserError:
        raise
    except BaseException as error:  # a module may do anything while it is imported, sys.exit included
        raise UserError(f"{function} cannot be imported: {_line(error)}") from error


def _task_scorer(tasks: Sequence[TaskConfig]) -> RewardFunction:
    from groupwise.tasks.gym import load_task

    by_name = {task.name: load_task(task) for task in tasks}

    def score(prompt: Prompt, completion: str) -> float:
        return by_name[prompt.task].score(prompt, completion)

    return score


def _named(function: str) -> RewardFunction:
    module_name, _, path = function.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there, something that it imports is not
        near = get_close_matches(module_name, [found.name for found in pkgutil.iter_modules()])
        hint = f"nearest names: {', '.join(near)}" if near else f"looked in {os.getcwd()} and on Python's path"
        raise UserError(f"there is no module {module_name!r}; {hint}") from None
    found: Any = module
    for part in path.split("."):
        if not hasattr(found, part):
            raise UserError(f"{module_name} has no function {path!r}; {_nearest(part, found)}")
        found = getattr(found, part)
    check(found, function)
    return found  # type: ignore[no-any-return]


def _nearest(name: str, where: object) -> str:
    there = {key: value for key, value in vars(where).items() if callable(value) and not key.startswith("_")}
    own = [key for key, value in there.items() if getattr(value, "__module__", "") == getattr(where, "__name__", "")]
    near = get_close_matches(name, own) or own[:5] or get_close_matches(name, there)
    return f"nearest names: {', '.join(near)}" if near else "it has no functions"


def check(function: Callable[..., Any], name: str) -> None:
    """Refuse at the start what every call would refuse: something that cannot take (prompt, completion)."""
    if not callable(function):
        raise UserError(f"{name} is not a function but a {type(function).__name__}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # built in, without a signature
        return
    try:
        signature.bind(None, None)
    except TypeError as error:
        raise UserError(f"{name} cannot be called as function(prompt, completion): {error}") from None
