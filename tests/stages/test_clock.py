from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from groupwise.run.profile import Profile, span, update
from groupwise.stages.clock import STEPS, Clock


def test_every_step_is_there_and_seconds_add_up() -> None:
    clock = Clock()
    assert tuple(clock.seconds) == STEPS
    for _ in range(2):
        with clock("draw"):
            time.sleep(0.01)
    assert clock.seconds["draw"] >= 0.02
    assert clock.total == sum(clock.seconds.values())


def test_for_a_profile_a_step_is_a_span_around_finer_ones(tmp_path: Path) -> None:
    clock = Clock()
    with Profile(tmp_path / "profile.json"), update(), clock("generate"), span("decode"):
        time.sleep(0.01)
    phases = json.loads((tmp_path / "profile.json").read_text())["phases"]
    assert (phases["generate"]["inside"], phases["decode"]["inside"]) == (None, "generate")
    whole = phases["generate"]["seconds"] + phases["decode"]["seconds"]
    assert whole == pytest.approx(clock.seconds["generate"], abs=0.005)
