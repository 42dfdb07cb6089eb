"""Checkpoints: one file each, written beside and renamed, so that the last good one survives anything."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def save_checkpoint(folder: Path, step: int, state: Mapping[str, Any], keep: int) -> Path:
    """Write `state` (a tree of plain values and tensors) as the checkpoint after `step` updates; keep the newest `keep`.

    The file appears under its name only when it is whole and on disk. A full disk raises OSError and leaves the older
    checkpoints as they were.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:06d}.pt"
    beside = folder / f".{path.name}.tmp"
    try:
        with beside.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    beside.replace(path)
    _sync_folder(folder)
    for old in checkpoints(folder)[:-keep]:
        old.unlink()
    return path


def checkpoints(folder: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    return sorted(folder.glob("step-*.pt"))


def load_checkpoint(folder: Path) -> tuple[int, dict[str, Any]] | None:
    """Step and state of the newest readable checkpoint; None where there is none.

    Only plain values and tensors are unpickled, so a downloaded run cannot run code.
    """
    import torch

    for path in reversed(checkpoints(folder)):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever is wrong with this file, an older one may still serve
            warnings.warn(f"checkpoint {path} cannot be read ({error}); trying the one before", stacklevel=2)
            continue
        return int(path.stem.removeprefix("step-")), state
    return None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
