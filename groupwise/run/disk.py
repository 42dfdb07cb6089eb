"""What the disk refuses, said in one line, and what is on it for good."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from groupwise.types import UserError


@contextmanager
def writing(what: object) -> Iterator[None]:
    """Inside, a disk that is full, read-only or not ours is a UserError that names `what`."""
    try:
        yield
    except Exception as error:
        number = _errno(error)
        if number is None:
            raise
        raise UserError(f"{what} cannot be written: {os.strerror(number)}") from error


def sync(*paths: Path) -> None:
    """Wait until these files, and the names in these folders, would outlive a power cut; some may not be there."""
    for path in paths:
        if path.exists():
            with writing(path):
                descriptor = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)


def _errno(error: Exception) -> int | None:
    """The system's error number. torch raises an error of its own over it, safetensors only mentions it."""
    for found in (error, error.__context__):
        if isinstance(found, OSError):
            return found.errno
    mentioned = re.search(r"\(os error (\d+)\)", str(error))
    return int(mentioned[1]) if mentioned else None
