"""Checkpoints: whole or not there, and the last good one survives full disks, crashes and damage."""

from __future__ import annotations

import errno
import logging
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from groupwise.run import checkpoint
from groupwise.run.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from groupwise.types import UserError

FULL = Path("/dev/full")  # what is written there fails with "No space left on device"


def state(step: int) -> dict[str, Any]:
    return {"step": step, "weights": torch.full((1000,), float(step)), "tree": {"list": [1, 2.5, None, "x"], "t": (1,)}}


def save(folder: Path, *steps: int, keep: int = 2) -> None:
    for step in steps:
        save_checkpoint(folder, step, state(step), keep)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    arrays = {"empty": np.zeros((0, 3)), "mask": np.array([True, False]), "ids": np.arange(6).reshape(2, 3)[:, ::-1]}
    save_checkpoint(tmp_path, 1, {"list": [arrays, (np.float64(0.1), np.int64(7))]}, keep=1)
    _, found = load_checkpoint(tmp_path) or (0, {})
    loaded, scalars = found["list"]
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)
    assert scalars == (0.1, 7)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save(tmp_path / "new", 7)
    step, found = load_checkpoint(tmp_path / "new") or (0, {})
    assert step == 7
    assert torch.equal(found.pop("weights"), torch.full((1000,), 7.0))
    assert found == {"step": 7, "tree": {"list": [1, 2.5, None, "x"], "t": (1,)}}


def test_there_may_be_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "nowhere") is None
    assert checkpoints(tmp_path / "nowhere") == []


def test_the_newest_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 0, 2, 4, 6, keep=3)
    assert names(tmp_path) == ["step-000002.pt", "step-000004.pt", "step-000006.pt"]
    save(tmp_path, 8, keep=1)
    assert names(tmp_path) == ["step-000008.pt"]


def test_steps_are_numbers_not_words(tmp_path: Path) -> None:
    save(tmp_path, 999_999, 1_000_000)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-999999.pt", "step-1000000.pt"]
    assert (load_checkpoint(tmp_path) or (0,))[0] == 1_000_000


def test_the_same_step_is_replaced(tmp_path: Path) -> None:
    save(tmp_path, 2, 2)
    assert names(tmp_path) == ["step-000002.pt"]


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
def test_a_full_disk_leaves_the_last_good_one(tmp_path: Path) -> None:
    save(tmp_path, 2, 4)
    (tmp_path / ".step-000006.pt.tmp").symlink_to(FULL)
    with pytest.raises(UserError, match=r"checkpoint .*step-000006.pt cannot be written: No space left on device"):
        save(tmp_path, 6)
    assert names(tmp_path) == ["step-000002.pt", "step-000004.pt"]
    assert (load_checkpoint(tmp_path) or (0,))[0] == 4


def test_a_disk_that_fills_up_half_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 2)
    real = torch.save

    class HalfFull:
        def __init__(self, file: Any) -> None:
            self.file, self.room = file, 3000

        def write(self, data: Any) -> int:
            self.room -= len(data)
            if self.room < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return int(self.file.write(data))

        def flush(self) -> None:
            self.file.flush()

    monkeypatch.setattr(torch, "save", lambda what, file: real(what, HalfFull(file)))
    with pytest.raises(UserError, match="No space left on device"):
        save(tmp_path, 4)
    assert names(tmp_path) == ["step-000002.pt"]


def test_other_errors_are_not_blamed_on_the_disk(tmp_path: Path) -> None:
    with pytest.raises((TypeError, AttributeError), match="pickle"):
        save_checkpoint(tmp_path, 2, {"state": lambda: None}, 2)
    assert names(tmp_path) == []


def test_a_crash_before_the_renaming_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 2)

    def crash(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 4)
    assert (load_checkpoint(tmp_path) or (0,))[0] == 2


def test_a_half_written_file_is_no_checkpoint_and_goes_in_time(tmp_path: Path) -> None:
    save(tmp_path, 2)
    (tmp_path / ".step-000003.pt.tmp").write_bytes(b"half")  # left by a SIGKILL
    assert (load_checkpoint(tmp_path) or (0,))[0] == 2
    save(tmp_path, 4)
    assert names(tmp_path) == ["step-000002.pt", "step-000004.pt"]


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip(data: bytes) -> bytes:
    """One bit in the middle of the weights, which torch.load does not notice."""
    at = data.index(torch.full((1000,), 4.0).numpy().tobytes()) + 2000
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGES = {"cut": cut, "flipped": flip, "empty": lambda data: b"", "text": lambda data: b"not a checkpoint\n" * 200}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_one_gives_way_to_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Any
) -> None:
    save(tmp_path, 2, 4)
    newest = tmp_path / "step-000004.pt"
    newest.write_bytes(damage(newest.read_bytes()))
    with caplog.at_level(logging.WARNING):
        step, found = load_checkpoint(tmp_path) or (0, {})
    assert (step, found["step"]) == (2, 2)
    (message,) = caplog.messages
    assert "step-000004.pt cannot be read" in message
    assert "\n" not in message


@pytest.mark.parametrize("keep", [1, 2])
def test_what_follows_a_damaged_one_is_kept(tmp_path: Path, keep: int) -> None:
    """Else the file just written would be the oldest, and removed at once."""
    save(tmp_path, 2, 4, 6, keep=3)
    for path in checkpoints(tmp_path)[1:]:
        path.write_bytes(b"damaged")
    save(tmp_path, 3, keep=keep)
    assert (load_checkpoint(tmp_path) or (0,))[0] == 3
    assert len(checkpoints(tmp_path)) == keep


def test_when_all_are_damaged_nothing_is_thrown_away(tmp_path: Path) -> None:
    save(tmp_path, 2, 4)
    for path in checkpoints(tmp_path):
        path.write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"no checkpoint in .* can be read"):
        load_checkpoint(tmp_path)
    assert len(checkpoints(tmp_path)) == 2


def test_no_code_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "was here"),)

    torch.save({"x": Evil()}, tmp_path / "step-000002.pt")
    with pytest.raises(UserError, match=r"can be read"):
        load_checkpoint(tmp_path)
    assert not (tmp_path / "was here").exists()


def test_the_file_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        order.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def noted_replace(self: Path, target: Path) -> Path:
        order.append("rename")
        return replace(self, target)

    monkeypatch.setattr(checkpoint.os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    save(tmp_path, 2)
    assert order == ["file", "rename", "folder"]
