from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from groupwise.run.gauge import Allocated, Resident

BLOCK = 64 * 2**20


@pytest.fixture
def gauge() -> Iterator[Resident]:
    gauge = Resident()
    gauge.open()
    yield gauge
    gauge.close()


def test_it_sees_what_stays(gauge: Resident) -> None:
    before, _ = gauge.read()
    block = np.ones(BLOCK, np.uint8)
    now, peak = gauge.read()
    assert peak >= now >= before + 0.9 * block.nbytes


def test_a_peak_between_two_readings_is_seen_once(gauge: Resident) -> None:
    before, _ = gauge.read()
    block = np.ones(BLOCK, np.uint8)
    deadline = time.monotonic() + 30
    while gauge._peak < before + 0.9 * BLOCK and time.monotonic() < deadline:
        time.sleep(0.001)  # as long as the thread needs to come round
    del block
    now, peak = gauge.read()
    assert peak > before + 0.9 * BLOCK > now
    assert gauge.read()[1] < before + 0.9 * BLOCK


def test_closing_ends_the_thread() -> None:
    gauge = Resident()
    gauge.open()
    assert "memory gauge" in {thread.name for thread in threading.enumerate()}
    gauge.close()
    assert "memory gauge" not in {thread.name for thread in threading.enumerate()}


def test_a_gpu_is_waited_for_before_it_is_read_and_its_peak_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    asked: list[str] = []

    def answers(name: str, number: int | None = None) -> None:
        monkeypatch.setattr(torch.cuda, name, lambda: asked.append(name) or number)

    answers("synchronize")
    answers("memory_allocated", 3)
    answers("max_memory_allocated", 7)
    answers("reset_peak_memory_stats")
    assert Allocated().read() == (3, 7)
    assert asked == ["synchronize", "memory_allocated", "max_memory_allocated", "reset_peak_memory_stats"]


def test_on_a_gpu_a_peak_between_two_readings_is_seen_once() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    gauge = Allocated()
    gauge.open()
    before, _ = gauge.read()
    block = torch.ones(BLOCK, dtype=torch.uint8, device="cuda")
    del block
    assert gauge.read() == (before, before + BLOCK)
    assert gauge.read() == (before, before)
    gauge.close()
