"""Whole runs of the command line with vLLM itself: a server of the run's own, and one that the user started."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_model

from groupwise.rollout.vllm.client import Client
from groupwise.types import UserError

from .runs import ENVIRONMENT, command, read, rollouts, rows, summary, wait_for, write_recipe

pytest.importorskip("vllm")
pytestmark = [pytest.mark.vllm, pytest.mark.slow]

SMALL = {"eval": {"prompts": 2}, "update": {"learning_rate": 1e-3, "dtype": "float32"}}


@pytest.fixture(scope="module", autouse=True)
def _little_memory() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENVIRONMENT, "VLLM_CPU_KVCACHE_SPACE", "1")
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny", hidden=128)


@pytest.fixture(scope="module")
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        number: int = free.getsockname()[1]
        return number


class Server:
    """`python -m groupwise.rollout.vllm.server`, as a user starts it."""

    def __init__(self, model: Path, port: int) -> None:
        words = ["-m", "groupwise.rollout.vllm.server", str(model), "--port", str(port), "--dtype", "float32"]
        self.process = subprocess.Popen([sys.executable, *words], env=ENVIRONMENT, stdout=subprocess.DEVNULL)
        self._client = Client(f"127.0.0.1:{port}", 10.0, "")
        wait_for(self._answers)

    def _answers(self) -> bool:
        assert self.process.poll() is None
        try:
            return bool(self._client.ask("/"))
        except UserError:
            time.sleep(0.2)
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def check(run: Path, steps: int) -> None:
    """It learned, from completions of the newest weights, and the learner agrees with the engine."""
    made = rows(run)
    assert [row["step"] for row in made] == list(range(1, steps + 1))
    assert all(row["policy/mismatch"] < 1e-4 for row in made)
    assert made[0]["policy/grad_norm"] > 0
    versions = [set(table["policy_version"].to_pylist()) for table in rollouts(run).values()]
    assert versions == [{step} for step in range(steps)]
    assert summary(run)["after"]["pass@1"] is not None
    assert "old: learner" in read(run / "recipe.yaml")


def test_a_run_with_a_server_of_its_own(model: Path, tmp_path: Path) -> None:
    write_recipe(tmp_path / "r.yaml", model, steps=2, **SMALL)
    ended = command(tmp_path, "train", "r.yaml", "--rollout.engine", "vllm")
    assert ended.code == 0, ended.err
    run = tmp_path / "runs" / "r"
    check(run, 2)
    address = read(run / "vllm.log").rpartition("rollout.vllm.server to ")[2].split()[0]
    with pytest.raises(UserError, match="refused"):
        Client(address, 5.0, "").ask("/")


def test_a_server_that_is_killed_and_started_again(model: Path, port: int, tmp_path: Path) -> None:
    rollout: dict[str, Any] = {"engine": "vllm", "vllm": {"server": f"127.0.0.1:{port}"}}
    write_recipe(tmp_path / "r.yaml", model, steps=40, rollout=rollout, **SMALL)
    run = tmp_path / "runs" / "r"
    server = Server(model, port)
    try:
        trainer = subprocess.Popen(
            [sys.executable, "-m", "groupwise", "train", "r.yaml"],
            cwd=tmp_path,
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for(lambda: len(read(run / "metrics.jsonl").splitlines()) >= 2 or trainer.poll() is not None)
    finally:
        server.process.send_signal(signal.SIGKILL)
    _, said = trainer.communicate(timeout=60)
    server.process.wait()
    assert trainer.returncode == 2, said
    last = said.strip().splitlines()[-1]
    assert last.startswith(f"groupwise: nothing of ours answers at 127.0.0.1:{port}"), said
    assert "train --resume RUN continues" in last
    done = len(rows(run))
    assert 2 <= done < 40

    server = Server(model, port)  # it knows only the weights of the model's folder
    try:
        ended = command(tmp_path, "train", "--resume", "runs/r")
    finally:
        server.kill()
    assert ended.code == 0, ended.err
    check(run, 40)
