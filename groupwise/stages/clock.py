"""Seconds by the step of the story; each is a span of a profile, and what progress says is being done."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from groupwise.run.doing import doing
from groupwise.run.profile import span

STEPS = ("draw", "embed", "generate", "score", "group", "estimate", "update", "record")


class Clock:
    """`with clock("draw"): ...` adds to that step's seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float, dict.fromkeys(STEPS, 0.0))

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        began = time.perf_counter()
        doing(step)
        try:
            with span(step):
                yield
        finally:
            self.seconds[step] += time.perf_counter() - began

    @property
    def total(self) -> float:
        return sum(self.seconds.values())
