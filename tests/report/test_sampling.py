from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from groupwise.report.sampling import LONGEST_TEXT, sample_rollouts, shorten

from .fake_run import make_rollout, make_run, write_rollouts
from .families import FAMILIES


def files(run: Path) -> list[Path]:
    return sorted((run / "rollouts").glob("step-*.parquet"))


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "long", steps=60, prompts_a_step=16, group_size=4)


@pytest.mark.parametrize("most", [1, 4, 50, 400, 1500, 10_000])
def test_groups_are_whole_and_fit(long_run: Path, most: int) -> None:
    sample = sample_rollouts(files(long_run), most=most)
    assert sample.rollouts == 60 * 16 * 4
    assert 0 < sample.shown <= max(most, 4)
    assert sample.shown > min(most, sample.rollouts) - 4
    for group in sample.groups:
        assert len(group) == 4
        assert len({(row["step"], row["prompt_id"]) for row in group}) == 1
    keys = [(group[0]["step"], group[0]["prompt_id"]) for group in sample.groups]
    assert len(set(keys)) == len(keys)


def test_a_short_run_is_shown_whole_and_in_order(tmp_path: Path) -> None:
    sample = sample_rollouts(files(make_run(tmp_path / "run", steps=3)))
    assert sample.shown == sample.rollouts == 3 * 16 * 8
    steps = [group[0]["step"] for group in sample.groups]
    assert steps == sorted(steps)


def test_early_middle_and_late_updates_and_every_task_are_there(long_run: Path) -> None:
    sample = sample_rollouts(files(long_run), most=480)
    phases = Counter((group[0]["step"] - 1) * 3 // 60 for group in sample.groups)
    assert set(phases) == {0, 1, 2}
    assert max(phases.values()) <= 1.3 * min(phases.values())
    tasks = Counter(group[0]["task"] for group in sample.groups)
    assert set(tasks) == {family.name for family in FAMILIES}
    assert max(tasks.values()) <= 2 * min(tasks.values())


def test_the_choice_is_the_same_each_time(long_run: Path) -> None:
    assert sample_rollouts(files(long_run), most=80) == sample_rollouts(files(long_run), most=80)


def test_groups_with_dropped_rollouts_are_there_but_few(tmp_path: Path) -> None:
    for step in range(1, 31):
        rows = [
            make_rollout(
                step=step, rollout=i, prompt_id=f"{step}-{i // 4}", dropped="accuracy: timeout" if i < 4 else None
            )
            for i in range(40)
        ]
        write_rollouts(tmp_path, step, rows)
    sample = sample_rollouts(files(tmp_path), most=200)
    with_dropped = [group for group in sample.groups if group[0]["dropped"]]
    assert 5 <= len(with_dropped) <= 12
    assert sample.shown == 200


def test_few_files_of_a_long_run_are_read_and_all_are_counted(long_run: Path) -> None:
    sample = sample_rollouts(files(long_run), most_files=6)
    assert sample.rollouts == 60 * 16 * 4
    steps = {group[0]["step"] for group in sample.groups}
    assert len(steps) == 6 and min(steps) == 1 and max(steps) == 60


def test_long_texts_are_cut_in_the_middle_and_fill_no_more_than_their_share(tmp_path: Path) -> None:
    rows = [
        make_rollout(rollout=i, prompt_id=f"p{i // 2}", completion="a" * 40_000 + "end", prompt="b" * 9_000)
        for i in range(40)
    ]
    write_rollouts(tmp_path, 1, rows)
    sample = sample_rollouts(files(tmp_path), most_characters=100_000)
    assert 0 < sum(len(row["completion"]) for group in sample.groups for row in group) < 100_000
    assert all(len(group) == 2 for group in sample.groups)
    text = sample.groups[0][0]["completion"]
    assert text.endswith("end") and "characters left out" in text and len(text) < LONGEST_TEXT + 100
    assert shorten("short") == "short"


def test_missing_columns_and_nulls_are_taken_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "rollouts").mkdir()
    table = pa.table({"step": [1, 1], "rollout": [0, 1], "prompt_id": ["p", "p"], "completion": ["x", None]})
    pq.write_table(table, tmp_path / "rollouts" / "step-000001.parquet")
    [group] = sample_rollouts(files(tmp_path)).groups
    assert [row["completion"] for row in group] == ["x", ""]
    assert group[0]["answer"] is None and group[0]["rewards"] == {} and group[0]["task"] == ""


def test_no_files_and_unreadable_files(tmp_path: Path) -> None:
    assert sample_rollouts([]).groups == ()
    bad = tmp_path / "step-000001.parquet"
    bad.write_bytes(b"half a file")
    sample = sample_rollouts([bad])
    assert (sample.rollouts, sample.unreadable, sample.shown) == (0, 1, 0)
