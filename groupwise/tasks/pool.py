"""A few workers that are given one call at a time, each with its own deadline; a worker that fails is replaced."""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from time import monotonic
from typing import Any, Protocol

from groupwise.tasks.worker import Answer, Job, call
from groupwise.types import Prompt, RewardFunction, UserError

START_DEADLINE = 60.0  # seconds a worker may take to load its rewards
_MOST_STARTS = 3  # starts that may fail in one run before no more are tried

Place = tuple[int, int]  # of a call: index of the item, index of the reward


class Worker(Protocol):
    """Says on `connection` what it loads, then {reward: why it could not be loaded}, then an Answer to each job."""

    connection: Connection

    def send(self, job: Job) -> None: ...

    def end(self) -> str:
        """Stop it at once, and say in words how it had ended, if it had."""
        ...


class ThreadWorker:
    """Runs functions that cannot be sent to another process.

    A thread cannot be killed. Past the deadline it is asked to stop by an exception, which ends `while True: pass`;
    where it sleeps it is left behind. What it prints is not caught.
    """

    def __init__(self, functions: Mapping[str, RewardFunction]) -> None:
        self.connection, self._theirs = Pipe()
        self._functions = functions
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = threading.Lock()  # held to answer and to end: a closed descriptor's number may belong to another
        self._thread = threading.Thread(target=self._work, name="groupwise-reward", daemon=True)
        self._theirs.send({})
        self._thread.start()

    def _work(self) -> None:
        with suppress(SystemExit):  # what `end` raises here
            while (job := self._jobs.get()) is not None:
                answer = call(self._functions[job.reward], job)
                with self._lock:
                    if self._theirs.closed:
                        return
                    self._theirs.send(answer)

    def send(self, job: Job) -> None:
        self._jobs.put(job)

    def end(self) -> str:
        with self._lock:
            self._theirs.close()
            self.connection.close()
        self._jobs.put(None)
        if self._thread.ident is not None and self._thread.is_alive():
            ident, stop = ctypes.c_ulong(self._thread.ident), ctypes.py_object(SystemExit)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, stop)
        return "ended"


@dataclass(eq=False)
class _Desk:
    """A worker and what it is doing."""

    worker: Worker
    due: float  # when it must have spoken
    patience: float  # seconds it had until then
    loading: str | None = "its libraries"  # None once it is ready
    job: Place | None = None


class Pool:
    """`hire` starts a worker and returns at once; `deadlines` are seconds by reward."""

    def __init__(self, hire: Callable[[], Worker], size: int, deadlines: Mapping[str, float]) -> None:
        self._hire, self._size, self._deadlines = hire, size, deadlines
        self._desks: list[_Desk] = []
        self._trouble: list[str] = []  # why workers did not start
        self._unloadable: dict[str, str] | None = None  # None until the first worker is ready
        self._fill()

    def ready(self) -> Mapping[str, str]:
        """Wait until all workers have loaded; the rewards that could not be, and why."""
        while any(desk.loading is not None for desk in self._desks) and not self._trouble:
            list(self._hear())
        if self._trouble:
            raise UserError(f"a reward worker did not start: {self._trouble[0]}")
        return self._unloadable or {}

    def run(self, items: Sequence[tuple[Prompt, str]], names: Sequence[str]) -> list[dict[str, Answer]]:
        """Each item's answers by reward, asked in the order of `names` up to the first that fails."""
        answers: list[dict[str, Answer]] = [{} for _ in items]
        queue: deque[Place] = deque((item, 0) for item in range(len(items)) if names)
        self._trouble.clear()
        self._fill()
        try:
            while self._desks and (queue or any(desk.job for desk in self._desks)):
                for (item, k), answer in list(self._hand_out(queue, items, names)) or list(self._hear()):
                    answers[item][names[k]] = answer
                    if answer.failure is None and k + 1 < len(names):
                        queue.appendleft((item, k + 1))
                self._fill()
        finally:  # whoever is still busy, after Ctrl-C say, would answer into the next run
            for desk in [desk for desk in self._desks if desk.job]:
                self._dismiss(desk)
            self._fill()  # replacements load while the trainer does something else
        for item, k in queue:
            answers[item][names[k]] = Answer(failure=f"no worker could start: {self._trouble[-1]}")
        return answers

    def close(self) -> None:
        for desk in [*self._desks]:
            self._dismiss(desk)

    def _fill(self) -> None:
        while len(self._desks) < self._size and len(self._trouble) < _MOST_STARTS:
            try:
                self._desks.append(_Desk(self._hire(), monotonic() + START_DEADLINE, START_DEADLINE))
            except OSError as error:  # no process or descriptor to be had
                self._trouble.append(str(error))

    def _hand_out(
        self, queue: deque[Place], items: Sequence[tuple[Prompt, str]], names: Sequence[str]
    ) -> Iterable[tuple[Place, Answer]]:
        for desk in [desk for desk in self._desks if desk.loading is None and desk.job is None]:
            if not queue:
                return
            place = queue.popleft()
            name = names[place[1]]
            try:
                desk.worker.send(Job(name, *items[place[0]]))
            except OSError:  # it died while it was idle: not the job's fault
                queue.appendleft(place)
                self._lose(desk, None)
            except Exception as error:  # whatever pickling the prompt may raise
                yield place, Answer(failure=f"prompt cannot be sent to a worker: {error}")
            else:
                desk.job, desk.patience = place, self._deadlines[name]
                desk.due = monotonic() + desk.patience

    def _hear(self) -> Iterable[tuple[Place, Answer]]:
        """Wait for the next word or deadline. What was said counts even where we come late to hear it."""
        if not self._desks:
            return
        patience = min(60.0, min(desk.due for desk in self._desks) - monotonic())
        speaking = wait([desk.worker.connection for desk in self._desks], max(0.0, patience))
        now = monotonic()
        for desk in [*self._desks]:
            if desk.worker.connection in speaking:
                yield from self._listen(desk)
            elif desk.due <= now:
                yield from self._lose(desk, f"timeout after {desk.patience:g} s")

    def _listen(self, desk: _Desk) -> Iterable[tuple[Place, Answer]]:
        try:
            message: Any = desk.worker.connection.recv()
        except Exception:  # the end of the stream, or bytes that a reward wrote into it
            return self._lose(desk, None)
        if isinstance(message, Answer) and desk.job is not None:
            place, desk.job, desk.due = desk.job, None, float("inf")
            if message.spent:
                self._dismiss(desk)
            return [(place, message)]
        if isinstance(message, str) and desk.loading is not None:
            desk.loading = f"reward {message!r}"
            return []
        if isinstance(message, dict) and desk.loading is not None:
            return self._admit(desk, message)
        return self._lose(desk, "spoke out of turn")

    def _admit(self, desk: _Desk, unloadable: dict[str, str]) -> Iterable[tuple[Place, Answer]]:
        if self._unloadable is None:
            self._unloadable = unloadable
        if news := unloadable.keys() - self._unloadable.keys():  # what loaded at first no longer does
            return self._lose(desk, unloadable[min(news)])
        desk.loading, desk.due = None, float("inf")
        return []

    def _lose(self, desk: _Desk, how: str | None) -> Iterable[tuple[Place, Answer]]:
        """Replace a worker that failed. `how` None: it ended by itself."""
        ended = self._dismiss(desk)
        how = how or f"died ({ended})"
        if desk.job is not None:
            return [(desk.job, Answer(failure=how))]
        self._trouble.append(f"{how} while {f'loading {desk.loading}' if desk.loading else 'idle'}")
        return []

    def _dismiss(self, desk: _Desk) -> str:
        self._desks.remove(desk)
        return desk.worker.end()
