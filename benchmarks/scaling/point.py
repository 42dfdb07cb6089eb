"""One point, measured in this process: python -m scaling.point ORDER STEPS; prints one JSON object.

Memory is the peak of each phase less what was resident after the imports: weights, gradients and optimizer included.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from compare_trl.material import share_of_odd
from compare_trl.our_side import build, load
from compare_trl.worker import channel, forget_peak, resident_mib
from compare_trl.works import read_order

from scaling.axes import PHASES

WARM_UP = 1


class Phase:
    """A function, watched: seconds and peak MiB of each call."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.seconds: list[float] = []
        self.mib: list[float] = []

    def __call__(self, *given: Any, **named: Any) -> Any:
        forget_peak()
        began = time.perf_counter()
        try:
            return self.function(*given, **named)
        finally:
            self.seconds.append(time.perf_counter() - began)
            self.mib.append(resident_mib("VmHWM"))


def main() -> None:
    def reward(completions: list[str], **_: Any) -> list[float]:
        return share_of_odd(completions)

    load()
    say, imported = channel(), resident_mib()
    order, steps = read_order(json.loads(sys.argv[1])), int(sys.argv[2])
    trainer = build(order, reward)
    generate, update = Phase(trainer.engine.generate), Phase(trainer.learner.update)
    trainer.engine.generate, trainer.learner.update = generate, update
    for _ in range(WARM_UP + steps):
        trainer.step()
    found: dict[str, Any] = {"gflops": gflops()}
    for name, phase in zip(PHASES, (generate, update), strict=True):
        found[f"{name}_seconds"] = statistics.median(phase.seconds[WARM_UP:])
        found[f"{name}_mib"] = max(phase.mib) - imported
    say(found)


def gflops(size: int = 1024, times: int = 10) -> float:
    """What the machine does at most: float32 products of two square matrices, the best of several."""
    import torch

    a, b = torch.randn(size, size), torch.randn(size, size)
    best = float("inf")
    for _ in range(times):
        began = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best / 1e9


if __name__ == "__main__":
    main()
