"""Ctrl-C loses nothing: the first one finishes the update and saves, the second one stops at once."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from groupwise.stages.interrupt import Interrupt

from .conftest import Write
from .runs import ENVIRONMENT, PATIENCE, PLAIN, Warm, differences, resumed, rows, wait_for

STEP = "torch.optim:AdamW.step"  # four times an update


def saved(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "runs" / "r" / "checkpoints").iterdir())


def resumes_to(plain: dict[str, Any], warm: Warm, folder: Path) -> None:
    assert differences(plain, resumed(warm, folder)) == []


def test_the_first_finishes_the_update_and_saves(
    warm: Warm, write: Write, tmp_path: Path, plain: dict[str, Any]
) -> None:
    write(tmp_path, **PLAIN)
    ended = warm.run(tmp_path, "train", "r.yaml", at=[(STEP, 10, "after", "interrupt")])
    assert ended.code == 130
    assert "Saved after update 3; groupwise train --resume runs/r continues." in ended.out
    assert ended.err.strip().splitlines() == [
        "Finishing this update, then saving; press Ctrl-C again to stop at once.",
        "groupwise: interrupted",
    ]
    assert saved(tmp_path) == ["step-000002.pt", "step-000003.pt"]
    resumes_to(plain, warm, tmp_path)


def test_in_the_last_update_it_ends_the_run_all_the_same(
    warm: Warm, write: Write, tmp_path: Path, plain: dict[str, Any]
) -> None:
    write(tmp_path, **PLAIN)
    ended = warm.run(tmp_path, "train", "r.yaml", at=[(STEP, 24, "after", "interrupt")])
    assert (ended.code, ended.err.strip().splitlines()[-1]) == (130, "groupwise: interrupted")
    assert "Saved after update 6; groupwise train --resume runs/r continues." in ended.out
    assert not (tmp_path / "runs" / "r" / "model").exists()
    resumes_to(plain, warm, tmp_path)


def test_the_second_stops_at_once_and_saves_no_half_done_update(
    warm: Warm, write: Write, tmp_path: Path, plain: dict[str, Any]
) -> None:
    write(tmp_path, **PLAIN)
    twice = [(STEP, 10, "after", "interrupt"), (STEP, 11, "after", "interrupt")]
    ended = warm.run(tmp_path, "train", "r.yaml", at=twice)
    assert ended.code == 130
    assert ended.err.strip().endswith("groupwise: interrupted")
    assert "Traceback" not in ended.err
    assert [row["step"] for row in rows(tmp_path / "runs" / "r")] == [1, 2]
    assert saved(tmp_path) == ["step-000000.pt", "step-000002.pt"]
    resumes_to(plain, warm, tmp_path)


@pytest.mark.parametrize(
    "at_once", [("groupwise.stages.evaluate:Evaluator.run", 1), ("groupwise.learner.policy:save_policy", 1)]
)
def test_outside_of_the_updates_there_is_nothing_to_finish(
    warm: Warm, write: Write, tmp_path: Path, plain: dict[str, Any], at_once: tuple[str, int]
) -> None:
    """In the first evaluation nothing has been done yet; before the last one all is saved already."""
    write(tmp_path, **PLAIN)
    ended = warm.run(tmp_path, "train", "r.yaml", at=[(*at_once, "before", "interrupt")])
    assert (ended.code, ended.err.strip()) == (130, "groupwise: interrupted")
    resumes_to(plain, warm, tmp_path)


def test_a_real_signal_to_the_real_command(write: Write, tmp_path: Path) -> None:
    """SIGTERM, what a cluster sends, is taken like Ctrl-C."""
    write(tmp_path, **PLAIN)
    words = [sys.executable, "-m", "groupwise", "train", "r.yaml", "--steps", "100000"]
    with subprocess.Popen(
        words, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            wait_for(lambda: rows(tmp_path / "runs" / "r") or process.poll() is not None)
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()  # if it is still there
    assert process.returncode == 130, err
    done = rows(tmp_path / "runs" / "r")[-1]["step"]
    assert f"Saved after update {done}" in out
    assert saved(tmp_path)[-1] == f"step-{done:06d}.pt"


def test_a_lost_terminal_ends_the_run_saved(write: Write, tmp_path: Path) -> None:
    """The end of an ssh session: SIGHUP, from the kernel and from the shell, and who writes to the terminal fails."""
    write(tmp_path, **PLAIN)
    reader, terminal = pty.openpty()
    words = [sys.executable, "-m", "groupwise", "train", "r.yaml", "--steps", "100000"]
    with subprocess.Popen(
        words, cwd=tmp_path, env=ENVIRONMENT, stdin=terminal, stdout=terminal, stderr=terminal
    ) as process:
        try:
            os.close(terminal)
            wait_for(lambda: rows(tmp_path / "runs" / "r") or process.poll() is not None)
            os.close(reader)
            process.send_signal(signal.SIGHUP)
            process.send_signal(signal.SIGHUP)
            process.wait(PATIENCE)
        finally:
            process.kill()  # if it is still there
    assert process.returncode == 130
    done = rows(tmp_path / "runs" / "r")[-1]["step"]
    assert saved(tmp_path)[-1] == f"step-{done:06d}.pt"


def test_a_run_whose_reader_has_gone_goes_on(write: Write, tmp_path: Path) -> None:
    """`groupwise train r.yaml | head -n 1`."""
    write(tmp_path, **PLAIN)
    words = [sys.executable, "-m", "groupwise", "train", "r.yaml"]
    with subprocess.Popen(
        words, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("before 16/16")
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(PATIENCE) == 0
    assert len(rows(tmp_path / "runs" / "r")) == 6
    assert (tmp_path / "runs" / "r" / "report.html").exists()


def test_the_handlers_come_and_go() -> None:
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in signals]
    with Interrupt() as interrupt:
        assert not interrupt.asked
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert [signal.getsignal(number) for number in signals] == before


def test_a_lost_terminal_does_not_stop_at_once() -> None:
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGHUP)
        assert interrupt.asked
        os.kill(os.getpid(), signal.SIGHUP)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_under_nohup_a_lost_terminal_is_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupt.asked
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("rank", "lines"), [("0", 1), ("1", 0)])
def test_of_several_processes_the_first_speaks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rank: str, lines: int
) -> None:
    monkeypatch.setenv("RANK", rank)
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.asked
    assert capsys.readouterr().err.count("Finishing this update") == lines


def test_in_another_thread_it_does_no_harm() -> None:
    from threading import Thread

    asked = []

    def work() -> None:
        with Interrupt() as interrupt:
            asked.append(interrupt.asked)

    thread = Thread(target=work)
    thread.start()
    thread.join()
    assert asked == [False]
