from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from groupwise.report.sections import rollouts

from .fake_run import make_rollout, write_rollouts
from .test_curves import run_of


@pytest.mark.parametrize(
    ("rewards", "reward", "outcome"),
    [
        ({"accuracy": 1.0, "format": 0.0}, 0.9, "right"),
        ({"format": 1.0, "accuracy": 0.0}, 1.0, "wrong"),
        ({"exact": 1.0, "length": -0.5}, 0.5, "right"),  # without an accuracy the first one judges
        ({"exact": 0.0, "style": 1.0}, 1.0, "wrong"),
        ({}, 1.0, "right"),
    ],
)
def test_a_rollout_is_right_where_the_metric_counts_it_so(
    tmp_path: Path, rewards: dict[str, float], reward: float, outcome: str
) -> None:
    run = run_of(tmp_path, [{"step": 1, "loss": 0.1}])
    write_rollouts(tmp_path, 1, [make_rollout(rewards=rewards, reward=reward)])
    section = rollouts.build(replace(run, rollout_files=tuple((tmp_path / "rollouts").glob("*.parquet"))))
    [group] = section.data["groups"]
    assert [member["outcome"] for member in group["members"]] == [outcome]
