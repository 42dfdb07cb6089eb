"""Where the time and the memory of an update went: `with span("decode"): ...` where a phase happens.

Spans nest, and each moment belongs to the innermost one, so the phases of an update add up to it. Unless a Profile is
open a span measures nothing and costs next to nothing.
"""

from __future__ import annotations

import json
import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any

from groupwise.run.disk import writing
from groupwise.run.gauge import Allocated, Resident

REST = "other"  # what no span within the update covers
MIB = 2**20

_open: list[Profile] = []  # at most one
_off = nullcontext()


def span(phase: str) -> AbstractContextManager[None]:
    """Inside, the time and memory of an update are this phase's, but for what spans further inside take.

    Counts within `update()` and in its thread only. On a GPU both edges wait for the device, so no edge may lie where a
    CUDA graph is captured.
    """
    return _open[-1].span(phase) if _open and _open[-1].counts_here else _off


def update() -> AbstractContextManager[None]:
    """Inside, one update is made; if that fails it is not counted."""
    return _open[-1].update() if _open else _off


@dataclass
class Phase:
    """What a phase took, of one update or of all."""

    inside: str | None = None  # the phase around it
    calls: int = 0
    seconds: float = 0.0
    idle: float = 0.0  # of these seconds, those in which this process used no processor
    peak: int = 0  # bytes
    growth: int = 0  # bytes
    by_update: array[float] = field(default_factory=lambda: array("d"))  # seconds, of the updates that had it

    def add(self, other: Phase) -> None:
        self.calls += other.calls
        self.seconds += other.seconds
        self.idle += other.idle
        self.peak = max(self.peak, other.peak)
        self.growth += other.growth

    def add_update(self, other: Phase) -> None:
        self.add(other)
        self.by_update.append(other.seconds)


class Profile:
    """While open, each `update()` is measured; closing writes `path`, unless no update was made.

    `device`: where the model computes. Memory is what torch has allocated there if that is "cuda", else the resident
    memory of this process. `done`: updates that were made before.
    """

    def __init__(self, path: Path, device: str = "cpu", done: int = 0) -> None:
        self._path, self._done = path, done
        self._memory = Allocated() if device == "cuda" else Resident()
        self._phases: dict[str, Phase] = {}  # of all updates, each behind the one around it
        self._total = Phase()
        self._current: dict[str, Phase] = {}  # of this update
        self._stack: list[str] = []  # the open spans
        self._thread = 0

    @property
    def counts_here(self) -> bool:
        return bool(self._stack) and threading.get_ident() == self._thread

    @contextmanager
    def update(self) -> Iterator[None]:
        self._thread, self._current = threading.get_ident(), {}
        self._look()
        with self.span(REST):
            yield
        total = Phase()
        for name, phase in self._current.items():
            total.add(phase)
            self._phases.setdefault(name, Phase(phase.inside)).add_update(phase)
        total.calls = 1
        self._total.add_update(total)

    @contextmanager
    def span(self, phase: str) -> Iterator[None]:
        self._end_segment()
        self._current.setdefault(phase, Phase(self._stack[-1] if self._stack else None)).calls += 1
        self._stack.append(phase)
        try:
            yield
        finally:
            self._end_segment()
            self._stack.pop()

    def _end_segment(self) -> None:
        """Give what has passed since the last edge of any span to the innermost one."""
        seconds, processor, memory = self._seconds, self._processor, self._bytes
        self._look()
        if self._stack:
            phase, wall = self._current[self._stack[-1]], self._seconds - seconds
            phase.seconds += wall
            phase.idle += max(0.0, wall - (self._processor - processor))
            phase.peak = max(phase.peak, self._peak)
            phase.growth += self._bytes - memory

    def _look(self) -> None:
        self._bytes, self._peak = self._memory.read()  # first: on a GPU it waits for the device
        self._seconds, self._processor = time.perf_counter(), time.process_time()

    def __enter__(self) -> Profile:
        self._memory.open()
        _open.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _open.remove(self)
        self._memory.close()
        if self._total.by_update:
            beside = self._path.with_suffix(".tmp")
            with writing(self._path):
                beside.write_text(json.dumps(self.results(), indent=2) + "\n")
                beside.replace(self._path)

    def results(self) -> dict[str, Any]:
        """What profile.json holds (docs/profile.md); at least one update must have been made."""
        count = len(self._total.by_update)
        return {
            "updates": {"first": self._done + 1, "last": self._done + count},
            "memory": self._memory.kind,
            "total": self._row(self._total),
            "phases": {
                name: {"inside": None if inside == REST else inside, **self._row(phase)}
                for name, inside, phase in self._in_order(REST)
            }
            | {REST: {"inside": None, **self._row(self._phases[REST])}},
        }

    def _in_order(self, around: str) -> Iterator[tuple[str, str, Phase]]:
        """Phases as they first happened, each followed by those inside it."""
        for name, phase in self._phases.items():
            if phase.inside == around:
                yield name, around, phase
                yield from self._in_order(name)

    def _row(self, phase: Phase) -> dict[str, float]:
        lacking = len(self._total.by_update) - len(phase.by_update)
        return {
            "seconds": round(phase.seconds, 6),
            "seconds_per_update": round(median([*phase.by_update, *[0.0] * lacking]), 6),
            "share": round(phase.seconds / self._total.seconds, 6),
            "idle_seconds": round(phase.idle, 6),
            "peak_mib": round(phase.peak / MIB, 2),
            "growth_mib": round(phase.growth / MIB, 2),
            "calls": phase.calls,
        }
