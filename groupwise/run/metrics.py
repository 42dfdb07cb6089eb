"""Metrics: one JSON row an update in `metrics.jsonl`, and the same rows to whatever trackers are asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from groupwise.config import LogConfig
from groupwise.run.disk import writing
from groupwise.types import UserError


class Tracker(Protocol):
    """Where rows go besides the file."""

    def write(self, step: int, row: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


class MetricsWriter:
    """Appends rows to `path`; on a resumed run it first removes those after `last_step`, so that none appears twice.

    TensorBoard is told to hide them; the other trackers are not.
    """

    def __init__(self, path: Path, log: LogConfig, last_step: int = 0) -> None:
        self._path, run = path, path.parent
        self._trackers = [open_tracker(log, run, last_step) for open_tracker in TRACKERS if open_tracker.wanted(log)]
        kept = [row for row in read_metrics(path) if row["step"] <= last_step]
        beside = path.with_suffix(".tmp")
        with writing(path):
            beside.write_text("".join(_line(row) for row in kept))
            beside.replace(path)
            self._file = path.open("a")

    def write(self, step: int, row: Mapping[str, float]) -> None:
        """One row; every value a finite number (others are written as null)."""
        with writing(self._path):
            self._file.write(_line({"step": step, **row}))
            self._file.flush()
        for tracker in self._trackers:
            tracker.write(step, row)

    def __enter__(self) -> MetricsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with writing(self._path):  # what a full disk refused is tried again here
            self._file.close()
        for tracker in self._trackers:
            tracker.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of a metrics file, oldest first; a last line cut short by a crash is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def _line(row: Mapping[str, Any]) -> str:
    safe = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
    return json.dumps(safe) + "\n"


def check_trackers(log: LogConfig) -> None:
    """UserError where a package that the recipe logs to is not installed; nothing is imported, which takes long."""
    for tracker in TRACKERS:
        name = tracker.module
        if tracker.wanted(log) and not getattr(find_spec(name), "origin", None):  # a folder ./wandb is no package
            raise UserError(f"log.{name}: {name} is missing; pip install 'groupwise[{name}]'")


class TensorBoard:
    """Event files in the run folder's `tensorboard/`."""

    module = "tensorboard"

    def __init__(self, log: LogConfig, run: Path, last_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run / "tensorboard"), purge_step=last_step + 1)

    @staticmethod
    def wanted(log: LogConfig) -> bool:
        return log.tensorboard

    def write(self, step: int, row: Mapping[str, float]) -> None:
        for name, value in row.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _Project:
    """Weights & Biases, and trackio, which speaks the same language."""

    module: str  # the key in the recipe, too
    folder: str | None = None  # the argument that says where it keeps its files

    def __init__(self, log: LogConfig, run: Path, last_step: int) -> None:
        library: Any = import_module(self.module)
        self._run = library.init(
            project=getattr(log, self.module), name=run.name, **({self.folder: str(run)} if self.folder else {})
        )
        self._library = library

    @classmethod
    def wanted(cls, log: LogConfig) -> bool:
        return getattr(log, cls.module) is not None

    def write(self, step: int, row: Mapping[str, float]) -> None:
        self._library.log(dict(row), step=step)

    def close(self) -> None:
        self._library.finish()


class WeightsAndBiases(_Project):
    module = "wandb"
    folder = "dir"


class Trackio(_Project):
    module = "trackio"


TRACKERS: tuple[Any, ...] = (TensorBoard, WeightsAndBiases, Trackio)
