"""The processes of one run: one, or as many as torchrun started on this host, each with a GPU of its own.

Every process draws the same prompts, completes and scores its share of them, and then knows all rollouts; advantages
are computed alike everywhere. Of the update each process takes its share, and gradients are added up. Only the first
one writes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from groupwise.types import UserError

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
PATIENCE = timedelta(hours=2)  # how long one process waits for another; a judge may be slow


def rank() -> int:
    """This process's number among those of the run, from 0; known before the processes have met."""
    return int(os.environ.get("RANK", "0"))


def size() -> int:
    """How many processes the run has; known before they have met."""
    return int(os.environ.get("WORLD_SIZE", "1"))


class World:
    """`size` processes, of which this is number `rank`."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and speaks to the user."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """This process's part: contiguous, in order; the parts' lengths differ by one at most."""
        edges = [round(i * len(items) / self.size) for i in (self.rank, self.rank + 1)]
        return items[edges[0] : edges[1]]

    def gather(self, items: list[Item]) -> list[Item]:
        """The parts of all processes, in the order of their ranks, in every process."""
        if self.size == 1:
            return items
        import torch.distributed as dist

        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, items)
        return [item for part in parts for item in part]

    def add(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace tensors, of the same shapes in every process, by their sums over the processes."""
        if self.size == 1:
            return
        import torch.distributed as dist

        for tensor in tensors:
            dist.all_reduce(tensor)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Work of this process's own, at whose end all processes meet: where it failed in one it fails in every one.

        Else the one would go on to other meetings than those in which the others wait for it.
        """
        failed: Exception | None = None
        try:
            yield
        except Exception as error:
            failed = error
        reasons = self.gather([f"process {self.rank}: {type(failed).__name__}: {failed}" if failed else ""])
        if failed:
            raise failed
        if any(reasons):
            raise UserError(next(filter(None, reasons)))

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any process."""
        return any(self.gather([flag]))

    def first(self, work: Callable[[], Item]) -> Item | None:
        """Do `work` in the first process while the others wait; its result there, None elsewhere."""
        result = work() if self.is_first else None
        self.wait()
        return result

    def wait(self) -> None:
        """Until every process is here."""
        self.gather([None])


def join() -> World:
    """Meet the other processes of the run, if torchrun started several; each takes the GPU of its local rank."""
    if size() == 1:
        return World()
    import torch
    import torch.distributed as dist

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if not dist.is_initialized():
        # objects travel by gloo, gradients by whichever backend fits their device
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    return World(dist.get_rank(), size())
