"""Checkpoints: one file each, written beside and renamed, so that the last good one survives anything."""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from groupwise.run.disk import sync, writing
from groupwise.types import UserError

_log = logging.getLogger(__name__)
ARRAY = "numpy.ndarray"  # key of the tensor that stands for an array in the file


def save_checkpoint(folder: Path, step: int, state: Mapping[str, Any], keep: int) -> Path:
    """Write `state` as the checkpoint after `step` updates; keep the newest `keep` of them.

    It is a tree of plain values, tensors and NumPy arrays.

    The file appears under its name only when it is whole and on disk. A full disk raises UserError and leaves the older
    checkpoints as they were. Later ones are of a future that the run has left: it went on from before them, because
    they could not be read.
    """
    import torch

    path = folder / f"step-{step:06d}.pt"
    beside = folder / f".{path.name}.tmp"
    with writing(f"checkpoint {path}"):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("wb") as file:
                torch.save(_portable(state), file)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        beside.replace(path)
        sync(folder)
        newest_first = [found for found in reversed(checkpoints(folder)) if _step(found) <= step]
        for useless in {*checkpoints(folder), *folder.glob(".step-*.tmp")} - {*newest_first[:keep]}:
            useless.unlink()
    return path


def checkpoints(folder: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    return sorted(folder.glob("step-*.pt"), key=_step)


def load_checkpoint(folder: Path) -> tuple[int, dict[str, Any]] | None:
    """Step and state of the newest whole checkpoint; None where there is none at all.

    Only plain values and tensors are unpickled, so a downloaded run cannot run code. Raises UserError where there are
    checkpoints but none is whole: to start anew would throw away what the run has recorded.
    """
    found = checkpoints(folder)
    for path in reversed(found):
        try:
            return _step(path), _load(path)
        except Exception as error:  # whatever is wrong with this file, an older one may still serve
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            _log.warning("checkpoint %s cannot be read (%s); trying the one before", path, reason)
    if found:
        raise UserError(f"no checkpoint in {folder} can be read; remove them all to start from the first update")
    return None


def _load(path: Path) -> dict[str, Any]:
    import torch

    with zipfile.ZipFile(path) as archive:  # torch itself does not look at the checksums
        if damaged := archive.testzip():
            raise ValueError(f"{damaged} is damaged")
    state: dict[str, Any] = _restored(torch.load(path, map_location="cpu", weights_only=True))
    return state


def _portable(state: Any) -> Any:
    """The same tree with arrays as marked tensors: those alone are read back without running code."""
    import torch

    if isinstance(state, np.ndarray):
        return {ARRAY: torch.from_numpy(state.copy())}
    if isinstance(state, np.generic):
        return state.item()
    return _mapped(_portable, state)


def _restored(state: Any) -> Any:
    """The tree that `_portable` was given."""
    if isinstance(state, dict) and state.keys() == {ARRAY}:
        return state[ARRAY].numpy()
    return _mapped(_restored, state)


def _mapped(change: Callable[[Any], Any], state: Any) -> Any:
    if isinstance(state, Mapping):
        return {key: change(value) for key, value in state.items()}
    return type(state)(map(change, state)) if type(state) in (list, tuple) else state


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))
