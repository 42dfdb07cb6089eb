"""A reader that goes away silences the output, and ends nothing; whole runs of it are in test_interrupt.py."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from groupwise.stages.screen import hush

SPEAKS = """
import sys
from groupwise.stages.screen import Screen, hush
sys.stdin.readline()
print("kept in a buffer", end="")
screen = Screen()
{hush}
screen.print("an update")
Screen().print("another")
print("a word of somebody else's", flush=True)
sys.exit(7)
"""


@pytest.mark.parametrize(("terminal", "first"), [(False, ""), (False, "hush()"), (True, "hush()")])
def test_a_reader_that_is_gone(monkeypatch: pytest.MonkeyPatch, terminal: bool, first: str) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    reader, writer = pty.openpty() if terminal else os.pipe()
    words = [sys.executable, "-c", SPEAKS.format(hush=first)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=writer, stderr=subprocess.PIPE, text=True) as process:
        os.close(writer)
        os.close(reader)
        _, err = process.communicate("go\n")
    assert (process.returncode, err) == (7, "")


def test_who_is_read_is_left_alone(capfd: pytest.CaptureFixture[str]) -> None:
    hush()
    os.write(1, b"out")
    os.write(2, b"err")
    assert capfd.readouterr() == ("out", "err")
