"""A long run needs no more memory than a short one."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Write
from .runs import Warm, rows

STEPS, SETTLED = 150, 40  # caches have filled by then


@pytest.mark.slow
def test_memory_stays_flat(warm: Warm, write: Write, tmp_path: Path) -> None:
    write(
        tmp_path,
        steps=STEPS,
        rollout={"zero_variance": "redraw", "max_tokens": 16},
        advantage={"kind": "rloo"},
        loss={"beta": 0.1},
        checkpoint={"every": 10},
        eval={"every": 25},
    )
    ended = warm.run(tmp_path, "train", "r.yaml")
    assert ended.code == 0, ended.err
    peaks = [row["memory/peak_mib"] for row in rows(tmp_path / "runs" / "r")]
    assert len(peaks) == STEPS
    assert peaks[-1] - peaks[SETTLED] < 10, f"grew from {peaks[SETTLED]:.0f} to {peaks[-1]:.0f} MiB"
