"""What the learning study runs, in which order: arms, mixes, learning rates by successive halving, paired seeds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sample_efficiency.scarce import scarce_tasks

RATES = (2e-5, 4e-5, 8e-5, 1.6e-4, 3.2e-4)
SLOW = 8e-5  # on the demo's tasks tuning finds 1.6e-4 for all, which is too much for runs of full length
TUNING_SEEDS = (100, 101)
SEEDS = tuple(range(8))
TUNED_AS = "hierarchical@2"  # whose learning rate the ablations take


@dataclass(frozen=True)
class Arm:
    """How an arm differs from the demo. `relabel`: see relabel.py. `rate`: a learning rate that is not tuned."""

    words: tuple[str, ...]
    relabel: str | None = None
    rate_of: str | None = None  # the arm whose learning rate it takes
    rate: float | None = None


def _arm(kind: str, group: int, *more: str, **options: str) -> Arm:
    return Arm((f"--advantage.kind={kind}", f"--rollout.group_size={group}", *more), **options)


def _domain(group: int, *more: str, **options: str) -> Arm:
    return _arm("hierarchical", group, "--grouping.kind=domain", *more, **options)


def _ablation(*more: str, **options: str) -> Arm:
    return _domain(2, *more, rate_of=TUNED_AS, **options)


ARMS: dict[str, Arm] = {
    "grpo@8": _arm("grpo", 8),
    "hierarchical@2": _arm("hierarchical", 2),
    "hierarchical@1": _arm("hierarchical", 1),
    "global@1": _arm("global", 1),
    "rloo@8": _arm("rloo", 8),
    "rloo@2": _arm("rloo", 2),
    "hierarchical@4": _arm("hierarchical", 4),
    "jspo@4": _arm("jspo", 4),
    "ebpo@4": _arm("ebpo", 4),
    "spo@1": _arm("spo", 1),
    "domain@1": _domain(1),
    "domain@2": _domain(2),
    "domain@4": _domain(4),
    "flat@2": _ablation("--grouping.kind=prompt"),
    "random groups@2": _ablation(relabel="random"),
    "task names@2": _ablation(relabel="tasks"),
    "clusters@2": _ablation("--grouping.kind=clusters"),
    "no history@2": _ablation("--advantage.history=0"),
    "kernel@2": _ablation("--advantage.transfer=kernel"),
}


@dataclass(frozen=True)
class Mix:
    """A mix of tasks, and what a run on it is like."""

    words: tuple[str, ...]  # how it differs from the demo
    steps: int  # updates; tuning takes half
    eval_every: int  # updates between evaluations
    eval_prompts: int  # held-out prompts a task
    arms: tuple[str, ...]
    seeds: tuple[int, ...] = SEEDS
    rates_of: str | None = None  # the mix whose learning rates it takes


RIVALS = ("grpo@8", "rloo@2", "rloo@8", "global@1", "spo@1", "jspo@4", "ebpo@4")
OURS = ("hierarchical@1", "hierarchical@2", "hierarchical@4")
ABLATIONS = tuple(name for name in ARMS if name not in RIVALS + OURS)
CONFIRMED = ("grpo@8", "global@1", "hierarchical@1", "hierarchical@2")
ARMS |= {f"{name} slow": replace(ARMS[name], rate=SLOW) for name in CONFIRMED}
MIXES = {
    "demo": Mix((), steps=16, eval_every=4, eval_prompts=24, arms=(*RIVALS, *OURS, *ABLATIONS)),
    "scarce": Mix(
        (f"--tasks={json.dumps(scarce_tasks())}",),
        steps=24,  # what is rarely right takes longer to learn
        eval_every=6,
        eval_prompts=60,  # of fewer tasks
        # where most tuned arms took 8e-5, these two took 2e-5 and 1.6e-4: at half length little is learned here
        arms=(*RIVALS, *OURS, "flat@2", "clusters@2", "grpo@8 slow", "hierarchical@2 slow"),
    ),
    "confirmed": Mix(
        (),
        steps=16,
        eval_every=4,
        eval_prompts=24,
        arms=(*CONFIRMED, *(f"{name} slow" for name in CONFIRMED)),
        seeds=tuple(range(8, 16)),  # the default's levels were chosen when the first eight had been seen
        rates_of="demo",
    ),
}


@dataclass(frozen=True)
class Plan:
    mixes: tuple[str, ...] = tuple(MIXES)
    arms: tuple[str, ...] | None = None  # None: the mix's
    rates: tuple[float, ...] = RATES  # one: nothing is tuned
    seeds: tuple[int, ...] | None = None  # None: the mix's

    def arms_of(self, mix: str) -> tuple[str, ...]:
        return MIXES[mix].arms if self.arms is None else self.arms

    def seeds_of(self, mix: str) -> tuple[int, ...]:
        return MIXES[mix].seeds if self.seeds is None else self.seeds


@dataclass(frozen=True)
class Job:
    """One run."""

    mix: str
    arm: str
    rate: float
    seed: int
    steps: int

    @property
    def name(self) -> str:
        return f"{self.mix}-{self.arm.replace(' ', '_')}-{self.rate:g}-{self.seed}-{self.steps}"


def next_jobs(plan: Plan, scores: Mapping[str, float]) -> list[Job]:
    """The jobs that are still to be done and can be started now, most wanted first.

    scores: by the names of the jobs that are done. The seeds of an arm wait for its learning rate; seed 0 of all arms
    comes before seed 1, so that what is there at any time can be compared.
    """
    jobs = dict.fromkeys(job for mix in plan.mixes for job in _of_mix(plan, mix, scores))
    return [job for job in jobs if job.name not in scores]


def best_rate(plan: Plan, mix: str, arm: str, scores: Mapping[str, float]) -> float | None:
    """The learning rate that tuning has found; None while it has not."""
    return _rate(plan, mix, arm, scores)[0]


def _of_mix(plan: Plan, mix: str, scores: Mapping[str, float]) -> Iterator[Job]:
    arms, rates = plan.arms_of(mix), {}
    for arm in arms:
        rates[arm], wanted = _rate(plan, mix, arm, scores)
        yield from wanted
    for seed in plan.seeds_of(mix):
        for arm in arms:
            rate = rates[arm]
            if rate is not None:
                yield Job(mix, arm, rate, seed, MIXES[mix].steps)


def _rate(plan: Plan, mix: str, arm: str, scores: Mapping[str, float]) -> tuple[float | None, list[Job]]:
    """An arm's learning rate, or the jobs that are wanted to find it."""
    if (given := ARMS[arm].rate) is not None:
        return given, []
    return _halving(plan, MIXES[mix].rates_of or mix, ARMS[arm].rate_of or arm, scores)


def _halving(plan: Plan, mix: str, arm: str, scores: Mapping[str, float]) -> tuple[float | None, list[Job]]:
    """Every rate at half length on the first tuning seed; the better half of them (rounded down) on the second."""
    rates: Sequence[float] = plan.rates
    done: dict[float, list[float]] = {rate: [] for rate in rates}
    for seed in TUNING_SEEDS:
        if len(rates) == 1:
            return rates[0], []
        jobs = {rate: Job(mix, arm, rate, seed, MIXES[mix].steps // 2) for rate in rates}
        if any(job.name not in scores for job in jobs.values()):
            return None, list(jobs.values())
        for rate, job in jobs.items():
            done[rate].append(scores[job.name])
        ranked = sorted(rates, key=lambda rate: -sum(done[rate]))
        rates = ranked[: max(1, len(ranked) // 2)]
    return rates[0], []
