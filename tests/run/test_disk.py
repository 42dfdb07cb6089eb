"""Whatever library meets the full disk first, the user reads the same line; other errors pass."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from groupwise.run.disk import sync, writing
from groupwise.types import UserError

needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")


def plainly(path: Path) -> None:
    path.write_text("x" * 100_000)


def by_torch(path: Path) -> None:
    with path.open("wb", buffering=0) as file:  # with a buffer, closing it would fail once more, plainly
        torch.save(torch.zeros(100_000), file)


def by_safetensors(path: Path) -> None:
    # it writes beside and renames, so that no full device can stand in for the file: what it says on a full disk
    from safetensors import SafetensorError

    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@needs_full
@pytest.mark.parametrize("write", [plainly, by_torch, by_safetensors])
def test_a_full_disk(tmp_path: Path, write: object) -> None:
    (full := tmp_path / "full").symlink_to("/dev/full")
    with (
        pytest.raises(UserError, match=r"^the model cannot be written: No space left on device$"),
        writing("the model"),
    ):
        write(full)  # type: ignore[operator]


def test_other_errors_pass() -> None:
    with pytest.raises(KeyError), writing("x"):
        raise KeyError("x")
    with pytest.raises(UserError, match=r"^mine$"), writing("x"):
        raise UserError("mine")
    with pytest.raises(KeyboardInterrupt), writing("x"):
        raise KeyboardInterrupt


def test_what_is_not_there_need_not_be_on_disk(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    sync(tmp_path, tmp_path / "file", tmp_path / "nowhere")
