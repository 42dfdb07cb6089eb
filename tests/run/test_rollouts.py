"""Rollouts as Parquet: every one, with what it was, what it earned, and why it was dropped."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from groupwise.run.rollouts import forget_after, write_rollouts
from groupwise.types import Completion, Prompt, Rollout, UserError

SAID = Completion(token_ids=(1, 2), logprobs=(-0.5, -1.5), text="2", finish_reason="stop", policy_version=3)


def rollout(**more: Any) -> Rollout:
    return Rollout(
        prompt=Prompt(
            id="p", task="sums", domain="arithmetic", text="1 + 1?", answer="2", token_ids=(5, 6, 7),
            metadata={"difficulty": {"terms": 2, "odd": (1, 2)}},
        ),
        completion=SAID,
        **more,
    )  # fmt: skip


def test_every_column(tmp_path: Path) -> None:
    kept = rollout(rewards={"accuracy": 1.0, "style": 0.5}, reward=1.25, advantage=0.5, group=2)
    path = write_rollouts(tmp_path / "rollouts", 4, [kept, rollout(dropped="accuracy: timeout after 5 s")])
    assert path.name == "step-000004.parquet"
    first, second = pq.read_table(path).to_pylist()
    assert json.loads(first.pop("rewards")) == {"accuracy": 1.0, "style": 0.5}
    assert json.loads(first.pop("difficulty")) == {"terms": 2, "odd": [1, 2]}
    assert first == {
        "step": 4,
        "rollout": 0,
        "group": 2,
        "prompt_id": "p",
        "task": "sums",
        "domain": "arithmetic",
        "prompt": "1 + 1?",
        "completion": "2",
        "answer": "2",
        "reward": 1.25,
        "advantage": 0.5,
        "finish_reason": "stop",
        "length": 2,
        "prompt_length": 3,
        "policy_version": 3,
        "logprob_mean": -1.0,
        "dropped": None,
        "path": [],
        "embedding": None,
    }
    assert (second["reward"], second["rewards"], second["group"]) == (None, "{}", -1)
    assert second["dropped"] == "accuracy: timeout after 5 s"


def test_types_do_not_depend_on_the_values(tmp_path: Path) -> None:
    """Files of one run are read as one table, also where all rollouts of one are dropped, or none is."""
    schemas = [
        pq.read_schema(write_rollouts(tmp_path, step, [each]))
        for step, each in enumerate((rollout(reward=1.0), rollout(dropped="gone"), rollout(reward=math.nan)))
    ]
    assert schemas[0] == schemas[1] == schemas[2]
    assert schemas[0].field("reward").type == pa.float64()


def test_an_empty_completion(tmp_path: Path) -> None:
    empty = rollout(reward=0.0)
    empty.completion = Completion(token_ids=(), logprobs=(), text="", finish_reason="stop", policy_version=0)
    (row,) = pq.read_table(write_rollouts(tmp_path, 1, [empty])).to_pylist()
    assert (row["length"], row["logprob_mean"]) == (0, 0.0)


def test_a_resumed_run_forgets_what_it_will_make_again(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        write_rollouts(tmp_path, step, [rollout(reward=1.0)])
    forget_after(tmp_path, 2)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-000001.parquet", "step-000002.parquet"]
    forget_after(tmp_path / "nowhere", 0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    (tmp_path / ".step-000001.parquet.tmp").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"step-000001.parquet cannot be written: No space left on device"):
        write_rollouts(tmp_path, 1, [rollout(reward=1.0)])
    assert not (tmp_path / "step-000001.parquet").exists()
