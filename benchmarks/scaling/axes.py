"""The axes, and how many operations a step at least takes along them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from compare_trl.works import Work

PHASES = ("generate", "update")


@dataclass(frozen=True)
class Axis:
    """One number of the work varies; all others stay those of size 1."""

    key: str  # of Work
    label: str
    values: tuple[int, ...]

    def work(self, value: int) -> Work:
        changes: dict[str, Any] = {self.key: value}
        return replace(Work(), **changes)


AXES: dict[str, Axis] = {
    "completion": Axis("completion_tokens", "tokens of a completion", (32, 64, 128, 256, 512)),
    "prompt": Axis("prompt_tokens", "tokens of a prompt", (24, 64, 256, 512, 1024)),
    "group": Axis("group", "completions of a prompt, 16 prompts", (2, 4, 8, 16, 32)),
    "vocabulary": Axis("vocabulary", "vocabulary", (64, 1024, 8192, 32_768, 131_072)),
    "layers": Axis("layers", "layers", (2, 4, 8, 16, 32)),
}


def forward_operations(work: Work) -> tuple[int, int]:
    """Floating-point operations of one forward over all that is different: the prompts, the completions.

    A multiplication with an addition counts as two. Each prompt counts once, however many completions it has; the
    output head counts where a token is predicted: once for each token of the completions.
    """
    size = work.hidden // work.heads
    kv = 2 * work.kv_heads * size
    layer = work.hidden * (work.hidden + kv) + work.hidden * work.hidden + 3 * work.hidden * work.intermediate
    weights = 2 * work.layers * layer  # operations a token
    p, c = work.prompt_tokens, work.completion_tokens
    attention = 4 * work.layers * work.hidden  # a token that looks at a token
    prompts = work.prompts * (p * weights + p * (p + 1) // 2 * attention)
    seen = c * p + c * (c + 1) // 2
    head = 2 * work.hidden * work.vocabulary
    completions = work.rollouts * (c * (weights + head) + seen * attention)
    return prompts, completions


def operations(work: Work) -> dict[str, int]:
    """The least that generating and updating take: one forward, and a forward with its backward, which counts twice."""
    forward = sum(forward_operations(work))
    return {"generate": forward, "update": 3 * forward}
