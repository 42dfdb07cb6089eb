"""The works: shapes of the model and of a step that both sides do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

PROMPT_STEPS = 32  # steps after which the prompts come again
RATE = 1e-6  # learning rate of both sides, so small that the policy, and so the work, stays what it is


@dataclass(frozen=True)
class Work:
    """A Qwen2 of random weights and a step of it. All prompts are equally long; `natural`: an end token may come."""

    prompts: int = 16
    group: int = 8
    prompt_tokens: int = 24
    completion_tokens: int = 64
    vocabulary: int = 64
    hidden: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    intermediate: int = 768
    natural: bool = False
    beta: float = 0.0
    # TRL's rollouts a micro-batch, and whether it generates by continuous batching; of several the fastest is taken
    micro_batches: tuple[int, ...] = (32,)
    continuous: tuple[bool, ...] = (False,)

    @property
    def rollouts(self) -> int:
        return self.prompts * self.group


@dataclass(frozen=True)
class Order:
    """What a side's process is told: the work, the folder where model and prompts lie, and how to compute."""

    work: Work
    folder: str
    dtype: str
    device: str
    threads: int
    micro_batch: int = 0  # TRL's, and the next one too
    continuous: bool = False

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_order(values: dict[str, Any]) -> Order:
    """The order from `as_dict`, after a passage through JSON."""
    work = {**values["work"], **{key: tuple(values["work"][key]) for key in ("micro_batches", "continuous")}}
    return Order(**{**values, "work": Work(**work)})


QWEN_HALF_B: dict[str, Any] = {"vocabulary": 151_936, "hidden": 896, "heads": 14, "kv_heads": 2, "intermediate": 4864}

WORKS: dict[str, Work] = {
    "size1": Work(),
    "size1-natural": Work(natural=True),
    "size1-kl": Work(beta=0.04),
    "size2": Work(
        prompts=8, completion_tokens=128, hidden=512, layers=8, heads=8, kv_heads=4, intermediate=1536
    ),  # 25 million parameters
    "long-prompt": Work(prompt_tokens=256, micro_batches=(16, 32, 64)),
    "big-vocab": Work(
        **{**QWEN_HALF_B, "vocabulary": 152_000},
        prompts=4,
        group=4,
        prompt_tokens=64,
        layers=2,
        micro_batches=(4, 8, 16),
    ),
    "gpu-0.5b": Work(
        **QWEN_HALF_B,
        prompt_tokens=256,
        completion_tokens=512,
        layers=24,
        micro_batches=(8, 16, 32),
        continuous=(False, True),
    ),
}
