"""Which runs are made, in which order: TRL tuned on seeds of its own, then paired seeds, the sides in turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

RATES = (4e-5, 8e-5, 1.6e-4, 3.2e-4)
GROUPS = (8, 4)  # TRL's default; the demo's. The second is tried with the best rate of the first.
TUNING_SEEDS = (100, 101)
SEEDS = tuple(range(5))


@dataclass(frozen=True)
class Job:
    """One training. `rate` and `group` are TRL's; ours are the recipe's."""

    side: str
    seed: int
    steps: int
    rate: float = 0.0
    group: int = 0

    @property
    def name(self) -> str:
        setting = f"-{self.rate:g}-{self.group}" if self.side == "trl" else ""
        return f"{self.side}{setting}-{self.seed}-{self.steps}"

    @property
    def tunes(self) -> bool:
        return self.seed in TUNING_SEEDS


def best_setting(scores: Mapping[str, float], steps: int) -> tuple[float, int] | None:
    """TRL's rate and group size of the best final score; None while tuning is not done. scores: by the jobs' names."""
    return _tune(scores, steps)[0]


def next_job(scores: Mapping[str, float], seeds: Sequence[int], steps: int) -> Job | None:
    """The most wanted job that is not done."""
    return next((job for job in _wanted(scores, seeds, steps) if job.name not in scores), None)


def _wanted(scores: Mapping[str, float], seeds: Sequence[int], steps: int) -> Iterator[Job]:
    setting, tuning = _tune(scores, steps)
    yield from tuning
    if setting:
        for number, seed in enumerate(seeds):
            pair = [Job("trl", seed, steps, *setting), Job("ours", seed, steps)]
            yield from pair if number % 2 == 0 else pair[::-1]


def _tune(scores: Mapping[str, float], steps: int) -> tuple[tuple[float, int] | None, list[Job]]:
    """The best setting, once it is known, and the jobs that tell so far."""
    tried = [(rate, GROUPS[0]) for rate in RATES]
    jobs = _jobs(tried, steps)
    for group in GROUPS[1:]:
        if any(job.name not in scores for job in jobs):
            return None, jobs
        tried.append((_best(scores, tried, steps)[0], group))
        jobs = _jobs(tried, steps)
    done = all(job.name in scores for job in jobs)
    return (_best(scores, tried, steps) if done else None), jobs


def _jobs(settings: Sequence[tuple[float, int]], steps: int) -> list[Job]:
    return [Job("trl", seed, steps, *setting) for setting in settings for seed in TUNING_SEEDS]


def _best(scores: Mapping[str, float], settings: Sequence[tuple[float, int]], steps: int) -> tuple[float, int]:
    return max(settings, key=lambda setting: sum(scores[job.name] for job in _jobs([setting], steps)))
