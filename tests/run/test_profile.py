"""Spans on a clock and a memory that only the tests move."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groupwise.run.profile import Profile, span, update

MIB = 2**20


@dataclass
class World:
    """Seconds, seconds of the processor, bytes; moved by `passes`."""

    seconds: float = 100.0
    processor: float = 7.0
    bytes: int = 500 * MIB
    peak: int = 0
    kind = "resident"

    def passes(self, seconds: float, busy: float = 0.0, mib: int = 0, peak: int = 0) -> None:
        """`mib` more memory, and in between `peak` more than that."""
        self.seconds += seconds
        self.processor += busy
        self.bytes += mib * MIB
        self.peak = max(self.peak, self.bytes + peak * MIB)

    def perf_counter(self) -> float:
        return self.seconds

    def process_time(self) -> float:
        return self.processor

    def read(self) -> tuple[int, int]:
        peak, self.peak = max(self.peak, self.bytes), self.bytes
        return self.bytes, peak

    def open(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr("groupwise.run.profile.time", world)
    monkeypatch.setattr("groupwise.run.profile.Resident", lambda: world)
    return world


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "profile.json"


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


# A phase: its name, what passes before its inner phases, these, what passes after them.
PASSES = st.tuples(
    st.floats(0, 10), st.floats(0, 10), st.integers(-20, 20), st.integers(0, 30)
)  # seconds, processor, MiB, peak
TREES: Any = st.recursive(
    st.tuples(st.sampled_from("abc"), PASSES, st.just([])),
    lambda inner: st.tuples(st.sampled_from("abcde"), PASSES, st.lists(inner, max_size=3)),
    max_leaves=8,
)


def live(world: World, tree: Any) -> Iterator[tuple[str, float]]:
    """Live through the tree; which phase each second belongs to."""
    name, passes, inner = tree
    with span(name):
        for part in inner:
            world.passes(*passes)
            yield name, passes[0]
            yield from live(world, part)
        world.passes(*passes)
        yield name, passes[0]


@given(st.lists(st.lists(TREES, max_size=3), min_size=1, max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
def test_every_moment_counts_once_and_is_the_innermost_phase_s(world: World, path: Path, made: list[Any]) -> None:
    expected: dict[str, float] = {"other": 0.0}
    began, first = world.seconds, world.bytes
    with Profile(path):
        for trees in made:
            with update():
                world.passes(1.0)
                expected["other"] += 1.0
                for tree in trees:
                    for name, seconds in live(world, tree):
                        expected[name] = expected.get(name, 0.0) + seconds
    found = read(path)
    phases, total = found["phases"], found["total"]
    assert {name: phase["seconds"] for name, phase in phases.items()} == pytest.approx(expected, abs=1e-5)
    assert total["seconds"] == pytest.approx(world.seconds - began, abs=1e-5)
    assert total["growth_mib"] == pytest.approx((world.bytes - first) / MIB, abs=0.1)
    assert sum(phase["growth_mib"] for phase in phases.values()) == pytest.approx(total["growth_mib"], abs=0.1)
    assert sum(phase["share"] for phase in phases.values()) == pytest.approx(1.0, abs=1e-4)
    assert total["peak_mib"] == max(phase["peak_mib"] for phase in phases.values())
    assert all(0 <= phase["idle_seconds"] <= phase["seconds"] + 1e-5 for phase in phases.values())
    assert (found["updates"], total["calls"]) == ({"first": 1, "last": len(made)}, len(made))
    seen: list[str] = []  # a phase stands behind the one around it
    for name, phase in phases.items():
        assert phase["inside"] in (None, *seen)
        seen.append(name)
    assert seen[-1] == "other"


def test_what_an_update_took(world: World, path: Path) -> None:
    with Profile(path, done=4):
        for seconds in (1.0, 5.0, 2.0):
            with update(), span("generate"):
                world.passes(0.5, busy=0.5)
                with span("decode"):
                    world.passes(seconds, busy=seconds / 4, mib=10, peak=30)
                with span("decode"):
                    world.passes(0.0)
                world.passes(0.5, busy=1.0, mib=-10)
    found = read(path)
    assert found["updates"] == {"first": 5, "last": 7}
    assert found["memory"] == "resident"
    assert list(found["phases"]) == ["generate", "decode", "other"]
    assert found["phases"]["decode"] == {
        "inside": "generate",
        "seconds": 8.0,
        "seconds_per_update": 2.0,  # the median
        "share": round(8 / 11, 6),
        "idle_seconds": 6.0,
        "peak_mib": 540.0,
        "growth_mib": 30.0,
        "calls": 6,
    }
    assert found["phases"]["generate"]["idle_seconds"] == 0.0  # two threads at once make up for nothing
    assert found["phases"]["generate"]["peak_mib"] == 510.0  # what it found when decoding was over
    assert found["total"]["seconds_per_update"] == 3.0


def test_a_phase_that_most_updates_lack(world: World, path: Path) -> None:
    with Profile(path):
        for number in range(3):
            with update():
                world.passes(1.0)
                if number == 2:
                    with span("redraw"):
                        world.passes(1.0)
    found = read(path)["phases"]["redraw"]
    assert (found["seconds"], found["seconds_per_update"], found["calls"]) == (1.0, 0.0, 1)


def test_what_lies_outside_an_update_is_not_counted(world: World, path: Path) -> None:
    with span("decode"), update():  # no profile is open
        world.passes(1.0)
    with Profile(path):
        with span("decode"):  # an evaluation
            world.passes(1.0)
        with update():
            world.passes(1.0)
        world.passes(1.0)
    assert read(path)["total"]["seconds"] == 1.0
    assert list(read(path)["phases"]) == ["other"]


def test_other_threads_are_not_counted(world: World, path: Path) -> None:
    def elsewhere() -> None:
        with span("elsewhere"):
            world.passes(1.0)

    with Profile(path), update(), span("here"):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert list(read(path)["phases"]) == ["here", "other"]
    assert read(path)["phases"]["here"]["seconds"] == 1.0


def test_an_update_that_fails_is_not_counted(world: World, path: Path) -> None:
    def updates() -> None:
        with Profile(path):
            with update(), span("decode"):
                world.passes(1.0)
            with update(), span("decode"):
                world.passes(10.0)
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        updates()
    assert read(path)["total"]["seconds"] == 1.0
    with span("decode"):
        world.passes(1.0)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_an_error_within_a_span_leaves_the_others_right(world: World, path: Path) -> None:
    def forward() -> None:
        with span("forward"):
            world.passes(1.0)
            raise MemoryError

    with Profile(path), update(), span("update"):
        with pytest.raises(MemoryError):
            forward()
        world.passes(2.0)
    phases = read(path)["phases"]
    assert (phases["forward"]["seconds"], phases["update"]["seconds"]) == (1.0, 2.0)


def test_without_an_update_nothing_is_written(world: World, path: Path) -> None:
    path.write_text("of an earlier call")
    with Profile(path):
        world.passes(1.0)
    assert path.read_text() == "of an earlier call"


def test_a_span_without_a_profile_is_always_the_same_object() -> None:
    assert span("a") is span("b") is update()
