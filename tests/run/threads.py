"""The processes of a run as threads of this one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

from groupwise.run.world import World


class Threads(World):
    """Gathers through a list that all see."""

    def __init__(self, rank: int, table: list[Any], barrier: Barrier) -> None:
        super().__init__(rank, len(table))
        self._table, self._barrier = table, barrier

    def gather(self, items: list[Any]) -> list[Any]:
        self._table[self.rank] = items
        self._barrier.wait()
        found = [item for part in self._table for item in part]
        self._barrier.wait()
        return found


def in_threads(work: Callable[[World], Any], size: int = 2) -> list[Any]:
    """What `work` returns or raises in each."""
    table, barrier = [None] * size, Barrier(size, timeout=30)

    def process(rank: int) -> Any:
        try:
            return work(Threads(rank, table, barrier))
        except Exception as error:
            return error

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(process, range(size)))
