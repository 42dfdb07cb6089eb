"""What to do when memory runs out: the same work again, in smaller pieces."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch

from groupwise.types import UserError

T = TypeVar("T")
SIGNS = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")  # of errors that have no type of their own


def out_of_memory(error: BaseException) -> bool:
    """Whether this error says that memory ran out, on whatever device."""
    typed = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return typed or (isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS))


@contextmanager
def told(what: str, advice: Sequence[str]) -> Iterator[None]:
    """Inside, memory that runs out is a UserError: `what` does not fit, and what the user can do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise UserError(f"memory: {what} does not fit; {', or '.join(advice)}") from error


def within_memory(work: Callable[[int], T], tokens: int, least: int, row: int, advice: Sequence[str]) -> tuple[T, int]:
    """`work(tokens)`, from its beginning with half as many while memory runs out; and the number that was enough.

    With the `least` every row stands alone. Raises UserError, with `advice`, when the longest, of `row` tokens, does
    not fit.
    """
    while True:
        try:
            return work(tokens), tokens
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
        # only here, where the error and all that its frames held are gone, can their memory be given back
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if tokens <= least:
            raise UserError(f"memory: one row of {row} tokens does not fit; {', or '.join(advice)}")
        tokens = max(least, tokens // 2)
