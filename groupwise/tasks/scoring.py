"""Scoring with deadlines: a rollout whose reward fails, hangs or crashes is dropped and counted, and costs no other."""

from __future__ import annotations

import logging
import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType
from typing import Any

from groupwise.config import RewardConfig, TaskConfig
from groupwise.tasks.built_in import BUILT_IN, check_params
from groupwise.tasks.calling import Answer, Item, check
from groupwise.tasks.nursery import Nursery
from groupwise.tasks.pool import Pool, ThreadWorker
from groupwise.tasks.worker import Charge
from groupwise.types import Rollout, UserError

UNSCORED = "unscored"  # why a rollout is dropped to which no reward applies
FULL = 1 - 1e-6  # what a reward must be for those that require it; scorers compute with floats

_log = logging.getLogger(__name__)


class Scorer:
    """Fills in the rewards of rollouts, in worker processes that are killed at a call's deadline and replaced.

    The workers start when the Scorer is made, beside whatever the caller does next; `ready` waits for them and raises
    UserError for rewards that cannot be loaded. What rewards print goes to the file `log`, or nowhere. A worker may
    hold `memory` bytes (default: half of the machine's); past them its reward raises MemoryError.

    `functions` are rewards given from Python, by reward name; a name without a RewardConfig gets the default one. One
    that other processes can import by its module and name goes to the workers, which import it afresh: they do not see
    what this process has changed in that module. Every other callable (lambda, closure, partial, object, anything
    defined in `__main__`) runs here, in one thread, in the order of the rollouts. It gets its deadline too, but a
    thread cannot be killed: see `ThreadWorker`. A crash there, or C code that keeps the interpreter lock, takes the
    run with it.

    How functions are called, one rollout at a time or all at once, is told by `groupwise.tasks.calling`; what happens
    when a call with many rollouts fails, by `groupwise.tasks.agenda`.

    Values do not depend on the number of workers: a call depends on its prompts and completions only, and the random
    streams of `random` and `numpy.random` are set by these before each call in a worker.
    """

    def __init__(
        self,
        tasks: Sequence[TaskConfig],
        rewards: Sequence[RewardConfig],
        workers: int = 2,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        *,
        log: Path | None = None,
        memory: int | None = None,
    ) -> None:
        functions = functions or {}
        names = [reward.name for reward in rewards]
        self._rewards = [*rewards, *(RewardConfig(name=name) for name in functions if name not in names)]
        self._functions = functions
        self._deadlines = {reward.name: reward.deadline for reward in self._rewards}
        _check_requirements(self._rewards)
        self._remote = _loadable(self._rewards, functions, tasks)
        self._local = [reward.name for reward in self._rewards if reward.name not in self._remote]
        for name in self._local:
            check(functions[name], f"reward {name!r}")
        self._opened = False
        self._nursery: Nursery | None = None
        self._processes: Pool | None = None
        self._thread: Pool | None = None
        if self._remote:
            half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
            used = tasks if any(reward.function == "task" for reward in self._remote.values()) else ()
            charge = Charge(rewards=self._remote, tasks=tuple(used), memory=half if memory is None else memory)
            self._nursery = Nursery(charge, log)
            self._processes = Pool(self._nursery.start, workers, self._deadlines)

    def ready(self) -> None:
        """Wait until the workers have loaded every reward. Raises UserError where one cannot be."""
        if self._opened:
            return
        unloadable = self._processes.ready() if self._processes else {}
        mistakes = [f"reward {name!r}: {why}" for name, why in unloadable.items() if name not in self._functions]
        if mistakes:
            raise UserError("; ".join(mistakes))
        for name, why in unloadable.items():
            _log.warning("reward %r runs in this process, where it cannot be killed: %s", name, why)
            del self._remote[name]
            self._local.append(name)
        if self._local:
            here = {name: self._functions[name] for name in self._local}
            self._thread = Pool(lambda: ThreadWorker(here), 1, self._deadlines)
            self._thread.ready()
        self._opened = True

    def score(self, rollouts: list[Rollout]) -> None:
        """Fill in `rewards`, `reward` and `dropped` of each rollout that has not been dropped before."""
        self.ready()
        rollouts = [rollout for rollout in rollouts if rollout.dropped is None]
        items = [
            Item(r.prompt, r.completion.text, r.completion.token_ids, r.completion.policy_version) for r in rollouts
        ]
        answers: list[dict[str, Answer]] = [{} for _ in rollouts]
        for pool, names in ((self._processes, self._remote), (self._thread, self._local)):
            if pool is not None:
                for row, more in zip(answers, pool.run(items, list(names)), strict=True):
                    row.update(more)
        for rollout, row in zip(rollouts, answers, strict=True):
            self._settle(rollout, row)

    def _settle(self, rollout: Rollout, answers: Mapping[str, Answer]) -> None:
        """The weighted sum of the rewards that apply, or the first failure in the recipe's order.

        A reward that requires another is 0 where that one is not full, and does not apply where that one does not.
        """
        rollout.rewards, rollout.reward = {}, float("nan")
        total = 0.0
        for reward in self._rewards:
            answer = answers.get(reward.name, Answer())
            if answer.failure is not None:
                rollout.dropped = f"{reward.name}: {answer.failure}"
                return
            value, required = answer.value, reward.requires
            if value is not None and (required is None or required in rollout.rewards):
                value = value if required is None or rollout.rewards[required] >= FULL else 0.0
                rollout.rewards[reward.name] = value
                total += reward.weight * value
        if not rollout.rewards:
            rollout.dropped = UNSCORED
        elif not math.isfinite(total):
            rollout.dropped = f"weighted sum: {total}"
        else:
            rollout.reward = total

    def close(self) -> None:
        """End the workers. A closed Scorer does not score."""
        if self._nursery:
            self._nursery.close()
        for pool in (self._processes, self._thread):
            if pool is not None:
                pool.close()

    def __enter__(self) -> Scorer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _loadable(
    rewards: Sequence[RewardConfig], functions: Mapping[str, Callable[..., Any]], tasks: Sequence[TaskConfig]
) -> dict[str, RewardConfig]:
    """The rewards that workers can load, by name; `function` is where they find each."""
    loadable = {}
    for reward in rewards:
        if reward.name in functions:
            if function := _reference(functions[reward.name]):
                loadable[reward.name] = reward.model_copy(update={"function": function})
            continue
        _check_function(reward, tasks)
        loadable[reward.name] = reward
    return loadable


def _check_function(reward: RewardConfig, tasks: Sequence[TaskConfig]) -> None:
    name, function = f"reward {reward.name!r}", reward.function
    module, colon, path = function.partition(":")
    if function in BUILT_IN:
        try:
            check_params(function, reward.params)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
    elif reward.params:
        raise UserError(f"{name}: params are for the built-in rewards ({', '.join(BUILT_IN)}), not for {function!r}")
    elif function == "task":
        if not tasks:
            raise UserError(f"{name} is the task's own scorer, but there are no tasks")
    elif not (module and colon and path):
        near = get_close_matches(function, ["task", *BUILT_IN], 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"{name}: function {function!r} is not task, {', '.join(BUILT_IN)} or module:function{hint}")


def _check_requirements(rewards: Sequence[RewardConfig]) -> None:
    names: list[str] = []
    for reward in rewards:
        if reward.name in names:
            raise UserError(f"rewards: two are named {reward.name!r}")
        if reward.requires is not None and reward.requires not in names:
            there = f"those before it are {', '.join(names)}" if names else "there is none before it"
            raise UserError(f"reward {reward.name!r}: requires {reward.requires!r} is no reward before it; {there}")
        names.append(reward.name)
    if not names:
        raise UserError("rewards: there is none")


def _reference(function: Callable[..., Any]) -> str | None:
    """`module:name` where another process finds this very function under it."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not isinstance(name, str) or module not in sys.modules or module in ("__main__", "__mp_main__"):
        return None
    found: object = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}:{name}" if found is function else None


def drops(rollouts: Iterable[Rollout]) -> Counter[str]:
    """How many rollouts were dropped, by kind: {"accuracy: timeout after 5 s": 4, "accuracy: raised KeyError": 1}."""
    return Counter(_kind(rollout.dropped) for rollout in rollouts if rollout.dropped is not None)


def _kind(reason: str) -> str:
    """A reason for dropping without the details that differ from rollout to rollout."""
    return ":".join(reason.split(":")[:2])


def all_failed(rollouts: Sequence[Rollout], where: str) -> str:
    """The sentence for a UserError when every rollout was dropped; `where` is e.g. "update 12".

    "every rollout of update 12 failed: accuracy raised ValueError: no digits (128 of 128)"; kinds with the most first,
    each in the words of its first rollout.
    """
    examples: dict[str, str] = {}
    for rollout in rollouts:
        if rollout.dropped is not None:
            examples.setdefault(_kind(rollout.dropped), rollout.dropped.replace(": ", " ", 1))
    counts = drops(rollouts).most_common(3)
    parts = [f"{examples[kind]} ({count} of {len(rollouts)})" for kind, count in counts]
    return f"every rollout of {where} failed: {'; '.join(parts)}"
