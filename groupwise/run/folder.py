"""The run folder: everything a run leaves behind, and how a new run makes room for itself."""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO
from weakref import WeakValueDictionary

from groupwise.run.disk import writing
from groupwise.types import UserError

RECIPE = "recipe.yaml"
METRICS = "metrics.jsonl"
GROUPS = "groups.jsonl"
ROLLOUTS = "rollouts"
CHECKPOINTS = "checkpoints"
MODEL = "model"
PROFILE = "profile.json"
REPORT = "report.html"
SUMMARY = "summary.json"

_held: WeakValueDictionary[tuple[int, int], TextIO] = WeakValueDictionary()  # by this process; by device and inode


def hold(run: Path) -> TextIO:
    """Keep other processes out of a run folder until the file that this returns is closed, or the process ends.

    Within one process a later run may take the place of one that nobody has closed. Raises UserError where another
    process is at work there: two of them would mix their rollouts and remove each other's checkpoints.
    """
    with writing(f"run.dir: {run}"):
        file = (run / RECIPE).open("a")  # to lock a file on NFS it must be open for writing
    place = os.fstat(file.fileno())
    key = (place.st_dev, place.st_ino)
    earlier = _held.get(key)
    if earlier is not None and not earlier.closed:
        file.close()
        file = os.fdopen(os.dup(earlier.fileno()), "a")  # the lock lasts until both are closed
    else:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise UserError(f"run.dir: another process is at work in {run}; end it, or name another run.dir") from None
        except OSError:  # a file system without locks
            pass
    _held[key] = file
    return file


@contextmanager
def new_run(path: Path, recipe_yaml: str) -> Iterator[Path]:
    """Make `path` a fresh run folder with its resolved recipe. An older run there is moved aside, and that is said.

    Where a mistake of the user's ends the body before anything but empty files was written there, nothing has happened:
    the fresh folder is gone, and the older run is back in its place. Inside, no other process may use the folder.
    """
    aside, there, held = None, path.is_dir(), False
    if path.exists() and not path.is_dir():
        raise UserError(f"run.dir: {path} is a file, not a folder")
    if path.is_dir() and any(path.iterdir()):
        if not (path / RECIPE).exists():
            raise UserError(f"run.dir: {path} holds files but no {RECIPE}; it is not a run, so it is left alone")
        aside = _free_name(path)
        with hold(path), writing(f"run.dir: {path}"):
            path.rename(aside)
        print(f"The earlier run in {path} is now in {aside}.")
    try:
        with writing(f"run.dir: {path}"):
            path.mkdir(parents=True, exist_ok=True)
        with hold(path):
            held = True
            with writing(f"run.dir: {path}"):
                (path / RECIPE).write_text(recipe_yaml)
            yield path
    except UserError:
        ours = held or not (path / RECIPE).exists()  # another process may have begun a run here at the same time
        if ours and not any(file.name != RECIPE and (file.is_dir() or file.stat().st_size) for file in path.glob("*")):
            shutil.rmtree(path, ignore_errors=True)
            if aside:
                aside.rename(path)
                print(f"It is back in {path}: nothing has been written.")
            elif there:
                path.mkdir(exist_ok=True)
        raise


def _free_name(path: Path) -> Path:
    """`path`-1, or the first number that is not taken."""
    name = path.resolve().name  # `.` has none
    return next(found for n in itertools.count(1) if not (found := path.parent / f"{name}-{n}").exists())
