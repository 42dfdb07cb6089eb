"""The vLLM server as a child of the trainer: started with the run, gone with it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import weakref
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten

from groupwise.rollout.vllm.server import HOST
from groupwise.types import UserError

PATIENCE = 10.0  # seconds it may take to end
TORCHRUN = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}


class ServerProcess:
    """A server of its own for one trainer, with what it says in `log`; it never outlives this object or the trainer.

    `gpu`: the number, among those that this process sees, of the GPU it shares with the trainer; None: vLLM chooses.
    Raises UserError where vLLM is not installed, does not start, or takes longer than `deadline` seconds to.
    """

    def __init__(
        self, source: str, *, dtype: str, memory: float, log: Path, deadline: float, gpu: int | None = None
    ) -> None:
        if find_spec("vllm") is None:
            raise UserError(
                "rollout.engine: vLLM is not installed; pip install 'groupwise[vllm]', or start a server elsewhere on "
                "this machine and name it in rollout.vllm.server"
            )
        options = ["--dtype", dtype, "--memory", str(memory), "--port", "0"]
        ours, theirs = socket.socketpair()
        with theirs, open(log, "ab") as out:
            number = theirs.fileno()
            process = subprocess.Popen(
                [sys.executable, "-m", "groupwise.rollout.vllm.server", source, *options, "--parent", str(number)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=environment(os.environ, gpu),
                pass_fds=(number,),
                start_new_session=True,  # Ctrl-C is the trainer's, which goes on to the end of its update
            )
        self.close: Callable[[], object] = weakref.finalize(self, _end, process, ours)
        try:
            self.address = f"{HOST}:{_port(ours, log, deadline)}"
        except BaseException:
            self.close()
            raise


def environment(ours: Mapping[str, str], gpu: int | None) -> dict[str, str]:
    """The server's environment: ours, less what torchrun says to the trainer's processes, and with one GPU visible."""
    env = {name: value for name, value in ours.items() if name not in TORCHRUN}
    if gpu is not None:
        visible = ours.get("CUDA_VISIBLE_DEVICES")
        env["CUDA_VISIBLE_DEVICES"] = visible.split(",")[gpu] if visible else str(gpu)
    return env


def _port(ours: socket.socket, log: Path, deadline: float) -> int:
    ours.settimeout(deadline)
    try:
        told = ours.recv(16)
    except TimeoutError:
        raise UserError(f"vLLM did not start within {deadline:g} s (rollout.vllm.deadline); its log is {log}") from None
    if not told:
        raise UserError(f"vLLM stopped while it started: {_last_words(log)}; all that it said is in {log}")
    return int(told)


def _last_words(log: Path) -> str:
    """The last line of the log that is not indented: of a traceback, its error."""
    with open(log, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 10_000))
        lines = file.read().decode(errors="replace").splitlines()
    said = [line for line in lines if line.strip() and not line[0].isspace()]
    return shorten(said[-1], 300, placeholder=" ...") if said else "it said nothing"


def _end(process: subprocess.Popen[bytes], ours: socket.socket) -> None:
    ours.close()
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
