"""What long work is at right now: it says so with `doing("generate", 37, 128)`, and whoever shows progress listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Called with the step, how much of it is done, and of how much; 0 of 0 where that is not known.
Listener = Callable[[str, int, int], None]

_listeners: list[Listener] = []


def doing(step: str, done: int = 0, total: int = 0) -> None:
    """Tell the innermost listener, if there is one."""
    if _listeners:
        _listeners[-1](step, done, total)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
