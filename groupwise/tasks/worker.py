"""What runs inside a worker: load the rewards once, then answer one call after another. Imports no torch."""

from __future__ import annotations

import importlib
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
from typing import Any, NamedTuple

from groupwise.config import RewardConfig, TaskConfig
from groupwise.tasks.built_in import BUILT_IN, built_in
from groupwise.tasks.calling import Answer, Caller, Form, Job, Reply, check, line
from groupwise.types import Prompt, RewardFunction, UserError


@dataclass(frozen=True, kw_only=True)
class Charge:
    """What a worker is born with."""

    rewards: Mapping[str, RewardConfig]  # by name, in the recipe's order
    tasks: Sequence[TaskConfig] = ()
    memory: int = 0  # bytes of data a worker may hold; 0: no limit


class Loaded(NamedTuple):
    """What a worker says when it has loaded: how its rewards are called, and why others cannot be."""

    forms: dict[str, Form]
    failures: dict[str, str]


def work(connection: Connection, charge: Charge) -> None:
    """Load, report, serve until the other end closes. While loading, each reward's name is sent before its turn."""
    functions: dict[str, Callable[..., Any]] = {}
    failures: dict[str, str] = {}
    for name, reward in charge.rewards.items():
        connection.send(name)
        try:
            functions[name] = load(reward, charge.tasks)
        except UserError as error:
            failures[name] = str(error)
    caller = Caller(functions)
    connection.send(Loaded(caller.forms, failures))
    born = os.getpid()
    while True:
        try:
            data = connection.recv_bytes()
        except EOFError:
            return
        reply = _reply(caller, data)
        if os.getpid() != born:  # a fork of the reward's own that came back here: it must not answer in our name
            os._exit(1)
        connection.send(reply)


def _reply(caller: Caller, data: bytes) -> Reply:
    try:
        job: Job = pickle.loads(data)
        _seed(job)
    except Exception as error:
        return Answer(failure=f"prompt cannot be read in the worker: {line(error)}")
    return caller(job)


def _seed(job: Job) -> None:
    """A reward that draws at random gives the same value whichever worker it meets, and in whatever order."""
    words = "\n".join(f"{item.prompt.id}\n{item.completion}" for item in job.items)
    seed = zlib.crc32(words.encode(errors="replace"))
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)


def load(reward: RewardConfig, tasks: Sequence[TaskConfig]) -> Callable[..., Any]:
    """The callable that `reward.function` names. Raises UserError in words that lead to the mistake."""
    function = reward.function
    try:
        if function == "task":
            return _task_scorer(tasks)
        return built_in(function, reward.params) if function in BUILT_IN else _named(function)
    except UserError:
        raise
    except BaseException as error:  # a module may do anything while it is imported, sys.exit included
        raise UserError(f"{function} cannot be imported: {line(error)}") from error


def _task_scorer(tasks: Sequence[TaskConfig]) -> RewardFunction:
    from groupwise.tasks.load import load_task

    by_name = {task.name: load_task(task) for task in tasks}

    def score(prompt: Prompt, completion: str) -> float:
        return by_name[prompt.task].score(prompt, completion)

    return score


def _named(function: str) -> Callable[..., Any]:
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
