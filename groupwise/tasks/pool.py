"""A few workers that are given one call at a time, each with its own deadline; a worker that fails is replaced."""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from time import monotonic
from typing import Any, Protocol

from groupwise.tasks.agenda import Agenda, Call
from groupwise.tasks.calling import Answer, Caller, Item, Job
from groupwise.tasks.worker import Loaded
from groupwise.types import UserError

START_DEADLINE = 60.0  # seconds a worker may take to load its rewards
_MOST_STARTS = 3  # starts that may fail in one run before no more are tried

_log = logging.getLogger(__name__)


class Worker(Protocol):
    """Says on `connection` what it loads, then what it has Loaded, then a Reply to each job."""

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

    def __init__(self, functions: Mapping[str, Callable[..., Any]]) -> None:
        self.connection, self._theirs = Pipe()
        self._caller = Caller(functions)
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = threading.Lock()  # held to answer and to end: a closed descriptor's number may belong to another
        self._thread = threading.Thread(target=self._work, name="groupwise-reward", daemon=True)
        self._theirs.send(Loaded(self._caller.forms, {}))
        self._thread.start()

    def _work(self) -> None:
        with suppress(SystemExit), closing(self._caller):  # what `end` raises here
            while (job := self._jobs.get()) is not None:
                reply = self._caller(job)
                with self._lock:
                    if self._theirs.closed:
                        return
                    self._theirs.send(reply)

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
    call: Call | None = None


class Pool:
    """`hire` starts a worker and returns at once; `deadlines` are seconds by reward."""

    def __init__(self, hire: Callable[[], Worker], size: int, deadlines: Mapping[str, float]) -> None:
        self._hire, self._size, self._deadlines = hire, size, deadlines
        self._desks: list[_Desk] = []
        self._trouble: list[str] = []  # why workers did not start
        self._loaded: Loaded | None = None  # None until the first worker is ready
        self._told: set[str] = set()  # rewards of whose divided calls the user has been told
        self._fill()

    def ready(self) -> Mapping[str, str]:
        """Wait until all workers have loaded; the rewards that could not be, and why."""
        agenda = Agenda((), {}, {})
        while any(desk.loading is not None for desk in self._desks) and not self._trouble:
            self._hear(agenda)
        if self._trouble:
            raise UserError(f"a reward worker did not start: {self._trouble[0]}")
        return self._loaded.failures if self._loaded else {}

    def run(self, items: Sequence[Item], names: Sequence[str]) -> list[dict[str, Answer]]:
        """Each item's answers by reward. The pool must be ready."""
        forms = self._loaded.forms if self._loaded else {}
        agenda = Agenda(items, {name: forms[name] for name in names}, self._deadlines)
        self._trouble.clear()
        self._fill()
        try:
            while self._desks and (agenda or any(desk.call for desk in self._desks)):
                self._hand_out(agenda)
                if any(desk.call or desk.loading for desk in self._desks):
                    self._hear(agenda)
                self._fill()
        finally:  # whoever is still busy, after Ctrl-C say, would answer into the next run
            for desk in [desk for desk in self._desks if desk.call]:
                self._dismiss(desk)
            self._fill()  # replacements load while the trainer does something else
        agenda.finish(f"no worker could start: {self._trouble[-1] if self._trouble else ''}")
        for name in agenda.divided.keys() - self._told:
            self._told.add(name)
            _log.warning("reward %r: %s; it is called again with parts of them", name, agenda.divided[name])
        return agenda.answers

    def close(self) -> None:
        for desk in [*self._desks]:
            self._dismiss(desk)

    def _fill(self) -> None:
        while len(self._desks) < self._size and len(self._trouble) < _MOST_STARTS:
            try:
                self._desks.append(_Desk(self._hire(), monotonic() + START_DEADLINE, START_DEADLINE))
            except OSError as error:  # no process or descriptor to be had
                self._trouble.append(str(error))

    def _hand_out(self, agenda: Agenda) -> None:
        for desk in [desk for desk in self._desks if desk.loading is None and desk.call is None]:
            if not agenda:
                return
            call = agenda.take()
            try:
                desk.worker.send(agenda.job(call))
            except OSError:  # it died while it was idle: not the call's fault
                agenda.put_back(call)
                self._lose(desk, agenda, None)
            except Exception as error:  # whatever pickling a prompt may raise
                agenda.settle(call, Answer(failure=f"prompt cannot be sent to a worker: {error}"))
            else:
                desk.call, desk.patience = call, agenda.patience(call)
                desk.due = monotonic() + desk.patience

    def _hear(self, agenda: Agenda) -> None:
        """Wait for the next word or deadline. What was said counts even where we come late to hear it."""
        if not self._desks:
            return
        patience = min(60.0, min(desk.due for desk in self._desks) - monotonic())
        speaking = wait([desk.worker.connection for desk in self._desks], max(0.0, patience))
        now = monotonic()
        for desk in [*self._desks]:
            if desk.worker.connection in speaking:
                self._listen(desk, agenda)
            elif desk.due <= now:
                late = agenda.deadline(desk.call) if desk.call else desk.patience
                self._lose(desk, agenda, f"timeout after {late:g} s")

    def _listen(self, desk: _Desk, agenda: Agenda) -> None:
        try:
            message: Any = desk.worker.connection.recv()
        except Exception:  # the end of the stream, or bytes that a reward wrote into it
            return self._lose(desk, agenda, None)
        if desk.call is not None and _answers(message, len(desk.call.rows)):
            call, desk.call, desk.due = desk.call, None, float("inf")
            agenda.settle(call, message)
            if any(answer.spent for answer in ([message] if isinstance(message, Answer) else message)):
                self._dismiss(desk)
        elif isinstance(message, str) and desk.loading is not None:
            desk.loading = f"reward {message!r}"
        elif isinstance(message, Loaded) and desk.loading is not None:
            self._admit(desk, agenda, message)
        else:
            self._lose(desk, agenda, "spoke out of turn")
        return None

    def _admit(self, desk: _Desk, agenda: Agenda, loaded: Loaded) -> None:
        if self._loaded is None:
            self._loaded = loaded
        if news := loaded.failures.keys() - self._loaded.failures.keys():  # what loaded at first no longer does
            self._lose(desk, agenda, loaded.failures[min(news)])
        else:
            desk.loading, desk.due = None, float("inf")

    def _lose(self, desk: _Desk, agenda: Agenda, how: str | None) -> None:
        """Replace a worker that failed. `how` None: it ended by itself."""
        ended = self._dismiss(desk)
        how = how or f"died ({ended})"
        if desk.call is not None:
            agenda.settle(desk.call, Answer(failure=how))
        else:
            self._trouble.append(f"{how} while {f'loading {desk.loading}' if desk.loading else 'idle'}")

    def _dismiss(self, desk: _Desk) -> str:
        self._desks.remove(desk)
        return desk.worker.end()


def _answers(message: Any, count: int) -> bool:
    """Whether a worker's message is a Reply to a call of `count` rows; a reward may have written into our stream."""
    if isinstance(message, list):
        return len(message) == count and all(isinstance(answer, Answer) for answer in message)
    return isinstance(message, Answer)
