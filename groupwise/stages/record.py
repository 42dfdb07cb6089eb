"""What an update leaves behind: its row of metrics, and the totals of the run."""

from __future__ import annotations

import os
import platform
import resource
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from groupwise.stages.clock import Clock
from groupwise.stages.collect import Collected
from groupwise.stages.summarise import CORRECT
from groupwise.types import Groups, Rollout

TOTALS = ("rollouts", "tokens", "dropped", "discarded", "train_seconds", "generate_seconds", "update_seconds")


class Totals:
    """Running totals over all updates, resumed runs included."""

    def __init__(self) -> None:
        self.values: dict[str, float] = dict.fromkeys(TOTALS, 0)

    def add(self, collected: Collected, clock: Clock) -> None:
        self.values["rollouts"] += len(collected.all)
        self.values["tokens"] += sum(len(r.completion.token_ids) for r in collected.all)
        self.values["dropped"] += len(collected.dropped)
        self.values["discarded"] += len(collected.discarded)
        self.values["train_seconds"] += clock.total
        self.values["generate_seconds"] += clock.seconds["generate"]
        self.values["update_seconds"] += clock.seconds["update"]

    def state(self) -> dict[str, Any]:
        return dict(self.values)

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.values = dict(state)


def metrics_row(
    collected: Collected, groups: Groups, learned: Mapping[str, float], totals: Totals, clock: Clock
) -> dict[str, float]:
    """The row of one update; docs/metrics.md says what each name means."""
    scored = collected.scored
    rewards = np.array([r.reward for r in scored])
    advantages = np.array([r.advantage for r in collected.kept])
    lengths = np.array([len(r.completion.token_ids) for r in collected.all])
    sizes = np.unique(groups.prompt, return_counts=True)[1]
    row: dict[str, float] = {
        "policy/mismatch": float("nan"),  # where nothing was learned, nothing was measured
        **learned,
        "reward/mean": float(rewards.mean()),
        "reward/std": float(rewards.std()),
        "accuracy": accuracy(scored),
        "advantage/mean": float(advantages.mean()) if len(advantages) else 0.0,
        "advantage/std": float(advantages.std()) if len(advantages) else 0.0,
        "groups/count": len(sizes),
        "groups/size_mean": float(sizes.mean()) if len(sizes) else 0.0,
        "groups/zero_variance": zero_variance_share(scored),
        "rollouts/total": int(totals.values["rollouts"]),
        "rollouts/dropped": len(collected.dropped),
        "rollouts/discarded": len(collected.discarded),
        "rollouts/truncated": float(np.mean([r.completion.finish_reason == "length" for r in collected.all])),
        "rollouts/rounds": collected.rounds,
        "completion/length_mean": float(lengths.mean()),
        "completion/length_max": int(lengths.max()),
        "tokens/total": int(totals.values["tokens"]),
        "tokens/per_second": float(lengths.sum()) / clock.total,
        "memory/peak_mib": peak_memory_mib(),
        "time/total": clock.total,
        **{f"time/{step}": seconds for step, seconds in clock.seconds.items()},
    }
    for name, values in _by(scored, lambda r: r.rewards.items()).items():
        row[f"reward/{name}/mean"] = float(np.mean(values))
    for name, values in _by(scored, lambda r: [(r.prompt.task, r.reward)]).items():
        row[f"tasks/{name}/reward"] = float(np.mean(values))
    for name, values in _by(collected.dropped, lambda r: [(str(r.dropped).split(":")[0], 1.0)]).items():
        row[f"rollouts/dropped/{name}"] = len(values)
    return row


def accuracy(rollouts: Sequence[Rollout]) -> float:
    """Share of scored rollouts whose reward named `accuracy`, else whose first, is full; as evaluations judge."""
    if not rollouts:
        return 0.0
    judged = [r.rewards.get("accuracy", next(iter(r.rewards.values()), r.reward)) for r in rollouts]
    return float(np.mean([value >= CORRECT for value in judged]))


def zero_variance_share(rollouts: Sequence[Rollout]) -> float:
    """Share of prompts whose completions all got the same reward, of those with at least two; nan where none has."""
    groups = _by(rollouts, lambda r: [(r.prompt.id, r.reward)])
    alike = [len(set(values)) == 1 for values in groups.values() if len(values) > 1]
    return float(np.mean(alike)) if alike else float("nan")


def peak_memory_mib() -> float:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def machine() -> dict[str, str]:
    """What the run ran on."""
    import torch

    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].split(":", 1)[1].strip() if names else cpu
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "cpu": cpu,
        "cores": str(len(os.sched_getaffinity(0))),
        "gpu": gpu,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _by(rollouts: Sequence[Rollout], pairs: Any) -> dict[str, list[float]]:
    out: dict[str, list[float]] = defaultdict(list)
    for rollout in rollouts:
        for name, value in pairs(rollout):
            out[name].append(value)
    return out
