"""metrics.jsonl: whole rows, each once, finite or null."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from groupwise.config import LogConfig
from groupwise.run.metrics import MetricsWriter, check_trackers, read_metrics
from groupwise.types import UserError

QUIET = LogConfig()


def write(path: Path, *steps: int, last_step: int = 0) -> None:
    with MetricsWriter(path, QUIET, last_step=last_step) as writer:
        for step in steps:
            writer.write(step, {"loss": step / 3, "rollouts/total": 16 * step})


def test_a_row_an_update(tmp_path: Path) -> None:
    write(path := tmp_path / "metrics.jsonl", 1, 2)
    assert read_metrics(path) == [
        {"step": 1, "loss": 1 / 3, "rollouts/total": 16},
        {"step": 2, "loss": 2 / 3, "rollouts/total": 32},
    ]
    assert path.read_text().count("\n") == 2


def test_a_row_is_on_disk_when_it_is_written(tmp_path: Path) -> None:
    with MetricsWriter(path := tmp_path / "metrics.jsonl", QUIET) as writer:
        writer.write(1, {"loss": 0.5})
        assert read_metrics(path) == [{"step": 1, "loss": 0.5}]


def test_what_is_not_finite_is_null(tmp_path: Path) -> None:
    with MetricsWriter(path := tmp_path / "metrics.jsonl", QUIET) as writer:
        writer.write(1, {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1.0})
    assert json.loads(path.read_text()) == {"step": 1, "a": None, "b": None, "c": None, "d": 1.0}


def test_a_resumed_run_forgets_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    write(path := tmp_path / "metrics.jsonl", 1, 2, 3)
    first = path.read_text().splitlines()[:2]
    write(path, 3, 4, last_step=2)
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 3, 4]
    assert path.read_text().splitlines()[:2] == first  # untouched to the last digit


def test_a_fresh_writer_starts_an_empty_file(tmp_path: Path) -> None:
    write(path := tmp_path / "metrics.jsonl", 1, 2)
    write(path)
    assert path.read_text() == ""


def test_a_last_line_cut_short_is_left_out(tmp_path: Path) -> None:
    write(path := tmp_path / "metrics.jsonl", 1, 2)
    whole = path.read_text()
    for cut in (1, 10, len(whole) // 2 - 1):
        path.write_text(whole[:-cut])
        assert [row["step"] for row in read_metrics(path)] == ([1, 2] if cut == 1 else [1])
        write(path, 3, last_step=2)
        assert [row["step"] for row in read_metrics(path)] == ([1, 2, 3] if cut == 1 else [1, 3])


def test_no_file_no_rows(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_a_crash_while_rewriting_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path := tmp_path / "metrics.jsonl", 1, 2)

    def crash(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        write(path, last_step=1)
    assert [row["step"] for row in read_metrics(path)] == [1, 2]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    write(path := tmp_path / "metrics.jsonl", 1)
    writer = MetricsWriter(path, QUIET, last_step=1)
    writer._file.close()
    writer._file = open("/dev/full", "a")  # noqa: SIM115
    with pytest.raises(UserError, match=r"metrics.jsonl cannot be written: No space left on device"):
        writer.write(2, {"loss": 1.0})
    with pytest.raises(UserError, match=r"metrics.jsonl cannot be written"):  # what the buffer still holds
        writer.__exit__(None, None, None)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written: No such file or directory"):
        MetricsWriter(tmp_path / "nowhere" / "metrics.jsonl", QUIET)


def test_other_trackers_get_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Any] = []
    fake: Any = ModuleType("trackio")
    fake.init = lambda project, name: rows.append((project, name))
    fake.log = lambda row, step: rows.append((step, row))
    fake.finish = lambda: rows.append("finished")
    monkeypatch.setitem(sys.modules, "trackio", fake)
    run = tmp_path / "demo"
    run.mkdir()
    with MetricsWriter(run / "metrics.jsonl", LogConfig(trackio="groups")) as writer:
        writer.write(1, {"loss": 0.5})
    assert rows == [("groups", "demo"), (1, {"loss": 0.5}), "finished"]


def test_tensorboard_shows_each_update_once_after_a_resume(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for steps, last, loss in (((1, 2, 3), 0, 1.0), ((3, 4), 2, 0.5)):
        with MetricsWriter(tmp_path / "metrics.jsonl", LogConfig(tensorboard=True), last_step=last) as writer:
            for step in steps:
                writer.write(step, {"loss": loss})
    shown = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("loss")
    assert [(event.step, event.value) for event in shown] == [(1, 1.0), (2, 1.0), (3, 0.5), (4, 0.5)]


@pytest.mark.parametrize("tracker", ["wandb", "trackio", "tensorboard"])
def test_a_tracker_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: str
) -> None:
    log = LogConfig.model_validate({tracker: True if tracker == "tensorboard" else "p"})
    monkeypatch.setitem(sys.modules, tracker, None)
    with pytest.raises(UserError, match=rf"log.{tracker}: {tracker} is missing; pip install 'groupwise\[{tracker}\]'"):
        check_trackers(log)
    monkeypatch.delitem(sys.modules, tracker)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    (tmp_path / tracker).mkdir()  # what an earlier run left in the working directory
    with pytest.raises(UserError, match="is missing"):
        check_trackers(log)
    (tmp_path / tracker / "__init__.py").touch()
    check_trackers(log)
    assert tracker not in sys.modules
