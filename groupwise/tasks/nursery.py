"""The process that reward workers are forked from: a fresh interpreter, one thread, no torch, imports done once.

It is what multiprocessing's forkserver is, without what hurts here: that one runs the user's `__main__` again in every
worker (in a script without a guard this starts the training again, and imports torch), is shared by the whole process,
leaves a worker's own children behind, and sits in the terminal's group where Ctrl-C kills workers.

Nothing outlives the trainer. The nursery reads the end of its socket, or sees that it has another parent, and kills
each worker's whole process group; workers ask the kernel to die with the nursery.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import itertools
import json
import os
import pickle
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from groupwise.tasks.worker import Charge, work

PATIENCE = 10  # seconds the nursery, or a worker that has nothing to do, may take to accept or answer a message
LOG_LIMIT = 10 * 2**20  # bytes of the log; past them it starts anew
_REQUEST = struct.Struct("<ci")  # b"s" start (a descriptor comes along) or b"e" end; the worker's number
_STATUS = struct.Struct("<ii")  # the worker's number; its exit code, or minus the signal that ended it
_UNKNOWN = 2**31 - 1  # status of a worker that this nursery does not know
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from groupwise.tasks.nursery import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)
# What takes long to import, by reward: workers share it.
_PRELOADED = {"task": ("groupwise.tasks.gym", "reasoning_gym"), "math": ("math_verify",)}
# Workers stay on one thread each (threads of BLAS would not survive the fork either) and hash alike in every run.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}


class ProcessWorker:
    """The trainer's end of one worker."""

    def __init__(self, nursery: Nursery, number: int, connection: Connection) -> None:
        self.connection = connection
        self._nursery, self._number = nursery, number

    def send(self, job: Any) -> None:
        self.connection.send_bytes(pickle.dumps(job))

    def end(self) -> str:
        """Kill it, if it still lives, and say how it ended."""
        self.connection.close()
        return self._nursery.end(self._number)


class Nursery:
    """The trainer's end of the nursery. What rewards print goes to `log`, or nowhere."""

    def __init__(self, charge: Charge, log: Path | None = None) -> None:
        self._charge, self._log = charge, log
        self._numbers = itertools.count()
        self._launch()

    def _launch(self) -> None:
        here = os.getcwd()  # where a recipe's reward module usually lies; a console script does not look there
        path = [*(str(entry) or here for entry in sys.path), here]
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(PATIENCE)
        with theirs, open(self._log or os.devnull, "ab") as log:
            number = theirs.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-u", "-c", _BOOT, json.dumps(path), str(number), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, **_ENVIRONMENT},
                pass_fds=(number,),
                start_new_session=True,
            )
        assert self._process.stdin is not None
        with suppress(BrokenPipeError), self._process.stdin as stdin:
            pickle.dump(self._charge, stdin)

    def start(self) -> ProcessWorker:
        """Ask for a worker and return at once; it will speak first. A nursery that died is replaced."""
        number = next(self._numbers)
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._socket, [_REQUEST.pack(b"s", number)], [theirs.fileno()])
            except OSError:
                self.close()
                self._launch()
                socket.send_fds(self._socket, [_REQUEST.pack(b"s", number)], [theirs.fileno()])
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", PATIENCE, 0))
        return ProcessWorker(self, number, Connection(ours.detach()))

    def end(self, number: int) -> str:
        """Kill worker `number` and its children; in words how it had ended before, if it had."""
        try:
            self._socket.sendall(_REQUEST.pack(b"e", number))
            about, status = -1, _UNKNOWN
            while about != number:  # after Ctrl-C an earlier question's answer may lie before ours
                about, status = _STATUS.unpack(self._socket.recv(_STATUS.size))
        except (OSError, struct.error):
            return "reason unknown"
        if status == _UNKNOWN:
            return "reason unknown"
        return f"exit code {status}" if status >= 0 else f"signal {signal.Signals(-status).name}"

    def close(self) -> None:
        """End the nursery and with it all its workers."""
        self._socket.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def main(descriptor: int, trainer: int) -> None:
    """The nursery's life: fork and bury workers as it is told, until the trainer is gone."""
    charge: Charge = pickle.load(sys.stdin.buffer)
    control = socket.socket(fileno=descriptor)
    control.set_inheritable(False)
    for module in {module for reward in charge.rewards.values() for module in _PRELOADED.get(reward.function, ())}:
        with suppress(Exception):  # the worker meets the same error and reports it in words
            importlib.import_module(module)
    gc.freeze()  # a collection in a worker then leaves the shared pages shared
    children: dict[int, int] = {}  # worker's number -> process id
    try:
        while _wait(control, trainer):
            message, descriptors, _, _ = socket.recv_fds(control, _REQUEST.size, 1)
            if len(message) < _REQUEST.size:
                return
            kind, number = _REQUEST.unpack(message)
            if kind == b"s":
                with suppress(OSError):  # no process to be had: closing the descriptor says so
                    children[number] = _fork(descriptors[0], control, charge)
                os.close(descriptors[0])
            else:
                control.sendall(_STATUS.pack(number, _bury(children.pop(number, None))))
    finally:
        for child in children.values():
            _bury(child)


def _wait(control: socket.socket, trainer: int) -> bool:
    """Wait for a request; False when the trainer is gone, even where some fork of it still holds the socket open."""
    while not select.select([control], [], [], 2)[0]:
        if os.getppid() != trainer:
            return False
        if os.fstat(1).st_size > LOG_LIMIT:
            os.ftruncate(1, 0)
    return True


def _bury(child: int | None) -> int:
    """Kill a worker with its process group; its exit code, or minus the signal that ended it."""
    if child is None:
        return _UNKNOWN
    for kill in (os.kill, os.killpg):  # first itself: it may not have its own group yet
        with suppress(ProcessLookupError, PermissionError):  # macOS refuses for a group of the dead
            kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _fork(descriptor: int, control: socket.socket, charge: Charge) -> int:
    nursery = os.getpid()
    child = os.fork()
    if child == 0:
        _live(descriptor, control, charge, nursery)
    return child


def _live(descriptor: int, control: socket.socket, charge: Charge, nursery: int) -> NoReturn:
    """A worker's life. It never returns into the nursery's loop."""
    status = 1
    try:
        control.close()
        os.setsid()
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
            with suppress(OSError):
                Path("/proc/self/oom_score_adj").write_text("1000")  # short of memory, the kernel spares the trainer
        if os.getppid() != nursery:  # it died before the kernel knew what we asked
            os._exit(status)
        _limit(resource.RLIMIT_CORE, 0)  # a reward that crashes often would fill the disk with core files
        if charge.memory:
            _limit(resource.RLIMIT_DATA, charge.memory)
        os.set_inheritable(descriptor, False)
        work(Connection(descriptor), charge)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
