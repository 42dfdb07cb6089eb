"""Which runs are made, in which order: TRL tuned on seeds of its own, then the sides in turn on seeds of theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

RATES = (4e-5, 8e-5, 1.6e-4, 3.2e-4)
GROUPS = (8, 4, 2)  # TRL's default to the demo's; each is tried with the best of what was tried before
TUNING_SEEDS = (100, 101)
SEEDS = tuple(range(200, 206))  # neither TRL nor the demo was tuned on these


class Setting(NamedTuple):
    """TRL's: learning rate, completions a prompt, and optimizer steps on each batch of rollouts."""

    rate: float
    group: int
    minibatches: int


@dataclass(frozen=True)
class Job:
    """One training, by TRL with a setting, or by ours, whose settings are the recipe's."""

    seed: int
    steps: int  # batches of rollouts
    setting: Setting | None = None

    @property
    def name(self) -> str:
        side = "ours" if self.setting is None else "trl-{:g}-{}-{}".format(*self.setting)
        return f"{side}-{self.seed}-{self.steps}"

    @property
    def tunes(self) -> bool:
        return self.seed in TUNING_SEEDS


def best_setting(scores: Mapping[str, float], steps: int, minibatches: int) -> Setting | None:
    """TRL's setting of the best final score; None while tuning is not done. scores: by the jobs' names."""
    return _tune(scores, steps, minibatches)[0]


def next_job(scores: Mapping[str, float], seeds: Sequence[int], steps: int, rivals: Sequence[int]) -> Job | None:
    """The most wanted job that is not done. rivals: each is TRL with so many optimizer steps on a batch."""
    return next((job for job in _wanted(scores, seeds, steps, rivals) if job.name not in scores), None)


def _wanted(scores: Mapping[str, float], seeds: Sequence[int], steps: int, rivals: Sequence[int]) -> Iterator[Job]:
    settings: list[Setting | None] = [None]
    for minibatches in rivals:
        setting, tuning = _tune(scores, steps, minibatches)
        yield from tuning
        if setting is None:
            return
        settings.append(setting)
    for number, seed in enumerate(seeds):
        first = number % len(settings)  # who begins changes from seed to seed
        yield from (Job(seed, steps, setting) for setting in settings[first:] + settings[:first])


def _tune(scores: Mapping[str, float], steps: int, minibatches: int) -> tuple[Setting | None, list[Job]]:
    """The best setting, once it is known, and the jobs that tell so far.

    All rates on the first seed, the better half of them on the second, then the best with the other group sizes.
    """
    first, second = TUNING_SEEDS
    tried = [Setting(rate, GROUPS[0], minibatches) for rate in RATES]
    jobs = [Job(first, steps, setting) for setting in tried]
    if not _done(jobs, scores):
        return None, jobs
    tried = sorted(tried, key=lambda setting: -scores[Job(first, steps, setting).name])[: len(tried) // 2]
    jobs += [Job(second, steps, setting) for setting in tried]
    for group in GROUPS[1:]:
        if not _done(jobs, scores):
            return None, jobs
        tried.append(_best(scores, tried, steps)._replace(group=group))
        jobs += _both_seeds(tried[-1], steps)
    return (_best(scores, tried, steps) if _done(jobs, scores) else None), jobs


def _both_seeds(setting: Setting, steps: int) -> list[Job]:
    return [Job(seed, steps, setting) for seed in TUNING_SEEDS]


def _done(jobs: Sequence[Job], scores: Mapping[str, float]) -> bool:
    return all(job.name in scores for job in jobs)


def _best(scores: Mapping[str, float], settings: Sequence[Setting], steps: int) -> Setting:
    return max(settings, key=lambda setting: sum(scores[job.name] for job in _both_seeds(setting, steps)))
