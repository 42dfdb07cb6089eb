"""The server as a child of the trainer: it starts, says why it did not, and never stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from groupwise.rollout.vllm import process
from groupwise.rollout.vllm.client import Client
from groupwise.rollout.vllm.process import ServerProcess
from groupwise.types import UserError

from .cases import fake_vllm

ROOT = Path(__file__).parents[3]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def start(behaviour: str, deadline: float = 120.0) -> ServerProcess:
        monkeypatch.setenv("FAKE_VLLM", behaviour)
        return ServerProcess("folder", dtype="float32", memory=0.5, log=tmp_path / "vllm.log", deadline=deadline)

    monkeypatch.setenv("PYTHONPATH", f"{fake_vllm(tmp_path)}:{ROOT}")
    monkeypatch.setattr(process, "find_spec", lambda name: name)
    return start


def gone(pid: int) -> bool:
    """Whether no such process is left; a zombie is none."""
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while not gone(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def server_of(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def test_it_serves_and_ends(start: Any, tmp_path: Path) -> None:
    server = start("fine")
    client = Client(server.address, 30, "")
    assert client.ask("/") == {"model": "folder", "weights": None, "dtype": "float32", "context": 64}
    server.close()
    server.close()
    with pytest.raises(UserError, match=server.address):
        client.ask("/")
    assert f"rollout.vllm.server to {server.address}" in (tmp_path / "vllm.log").read_text()


def test_it_dies_in_the_middle(start: Any) -> None:
    server = start("dies")
    request = {"weights": None, "prompts": [[1]], "seeds": [1], "end_token_ids": [2], "stop": []}
    with pytest.raises(UserError, match=r"nothing of ours answers at .*; its log is L"):
        Client(server.address, 30, "its log is L").ask(
            "/generate", request | {"max_tokens": 1, "temperature": 1.0, "top_p": 1.0, "top_k": 0}
        )
    server.close()


def test_it_does_not_start(start: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"stopped while it started: ImportError: libcuda\.so\.99.*vllm\.log"):
        start("absent")


def test_it_starts_too_slowly(start: Any) -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match=r"not start within 0\.5 s \(rollout\.vllm\.deadline\)"):
        start("slow", deadline=0.5)
    assert time.monotonic() - began < 15


def test_vllm_is_not_installed(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"rollout\.engine: vLLM is not installed; pip install 'groupwise\[vllm\]'"):
        start("fine")


def test_the_environment() -> None:
    ours = {"PATH": "/bin", "RANK": "1", "WORLD_SIZE": "2", "CUDA_VISIBLE_DEVICES": "4,7"}
    assert process.environment(ours, None) == {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "4,7"}
    assert process.environment(ours, 1) == {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "7"}
    assert process.environment({}, 1) == {"CUDA_VISIBLE_DEVICES": "1"}


TRAINER = """
import sys, time
from pathlib import Path
from groupwise.rollout.vllm import process
process.find_spec = lambda name: name
server = process.ServerProcess("folder", dtype="float32", memory=0.5, log=Path(sys.argv[1]), deadline=120)
print("ready", flush=True)
time.sleep(600)
"""


def test_it_does_not_outlive_a_trainer_that_is_killed(start: Any, tmp_path: Path) -> None:
    trainer = subprocess.Popen(
        [sys.executable, "-c", TRAINER, str(tmp_path / "vllm.log")],
        stdout=subprocess.PIPE,
        env={**os.environ, "FAKE_VLLM": "fine"},
    )
    try:
        assert trainer.stdout is not None
        assert trainer.stdout.readline() == b"ready\n"
        server = server_of(trainer.pid)
        assert not gone(server)
        trainer.send_signal(signal.SIGKILL)
        wait_until_gone(server)
    finally:
        trainer.kill()
        trainer.communicate()
