"""The fit of the kernel's variance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from groupwise.advantage import hierarchical_advantages, kernel_advantages, similarity
from groupwise.grouping.transfer_fit import MOST_PROMPTS, TransferFit
from groupwise.types import Floats, Ints

GIVEN = [0.0, 0.02, 0.01, 0.18]  # what the tree knows: its clusters differ by .02, however that came about


@dataclass
class Clusters:
    """80 clusters in four domains; their effects (variance .02) follow their places, or do not."""

    seed: int
    related: bool
    prompts: int = 64
    size: int = 2

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.place = self.rng.normal(size=(80, 8))
        root = np.linalg.cholesky(similarity(self.place) + 1e-9 * np.eye(80)) if self.related else np.eye(80)
        self.effect = np.sqrt(0.02) * root @ self.rng.normal(size=80)

    def batch(self) -> tuple[Floats, Ints, Floats]:
        cluster = self.rng.integers(0, 80, self.prompts)
        features = self.place[cluster] + 0.2 * self.rng.normal(size=(self.prompts, 8))
        rate = 0.5 + self.effect[cluster] + 0.1 * self.rng.normal(size=self.prompts)
        prompt = np.repeat(np.arange(self.prompts), self.size)
        levels = np.stack([cluster // 20, cluster, np.arange(self.prompts)], axis=1)[prompt]
        return rate[prompt] + np.sqrt(0.18) * self.rng.normal(size=len(prompt)), levels, features[prompt]


def run(world: Clusters, batches: int = 60) -> tuple[list[float], float, float]:
    """s_e before each batch, and the held-out error of the later half with and without transfer."""
    fit, found, errors = TransferFit(similarity), [], []
    for step in range(batches):
        rewards, levels, features = world.batch()
        variances, kernel_variance = fit.read(GIVEN)
        found.append(kernel_variance)
        if step >= batches // 2:
            with_it = kernel_advantages(rewards, levels, variances, kernel_variance, features)
            without = hierarchical_advantages(rewards, levels, GIVEN)
            errors.append([np.square(with_it).mean(), np.square(without).mean()])
        fit.add(rewards, levels, features)
    return found, *np.mean(errors, axis=0)


def test_related_groups_teach_each_other() -> None:
    runs = [run(Clusters(seed, related=True, prompts=128)) for seed in range(8)]
    assert sum(found[-1] > 0 for found, _, _ in runs) >= 6
    assert all(found[:8] == [0.0] * 8 for found, _, _ in runs)
    known = [found[-1] for found, _, _ in runs if found[-1]]
    assert 0.01 < np.mean(known) < 0.03
    with_it, without = np.mean([errors for _, *errors in runs], axis=0)
    assert with_it < without - 0.0005


@pytest.mark.parametrize("size", [1, 2])
def test_unrelated_groups_switch_it_off(size: int) -> None:
    runs = [run(Clusters(seed, related=False, size=size)) for seed in range(8)]
    assert np.mean([np.array(found) > 0 for found, _, _ in runs]) < 0.02
    assert all(found[-1] == 0 for found, _, _ in runs)


def test_the_moments_are_unbiased() -> None:
    """The system itself, without the switch: averages over worlds of what each reads."""
    solutions = []
    for seed in range(60):
        fit, world = TransferFit(similarity, decay=1.0), Clusters(seed, related=True, prompts=64, size=2)
        for _ in range(10):
            fit.add(*world.batch())
        table = np.sum(fit.state()["batches"], axis=0)
        solutions.append(np.linalg.solve(table[:, 1:-1], table[:, 0] - 0.18 * table[:, -1]))
    mean, error = np.mean(solutions, axis=0), np.std(solutions, axis=0) / np.sqrt(60)
    assert (np.abs(mean - [0, 0, 0.01, 0.02]) < 3 * error).all()
    assert error[-1] < 0.003


def test_while_it_is_off_the_variances_are_those_given() -> None:
    fit = TransferFit(similarity)
    variances, kernel_variance = fit.read(GIVEN)
    assert variances.tolist() == GIVEN
    assert kernel_variance == 0
    world = Clusters(0, related=True)
    for _ in range(40):
        fit.add(*world.batch())
    variances, kernel_variance = fit.read(GIVEN)
    assert kernel_variance > 0
    assert variances[1] < GIVEN[1]  # what the clusters have in common is counted once
    assert variances[-1] == GIVEN[-1]
    assert (variances >= 0).all()
    assert fit.read([np.inf, *GIVEN[1:]])[1] == 0


def test_batches_that_say_nothing_are_passed_over() -> None:
    fit = TransferFit(similarity)
    for _ in range(20):
        fit.add([1.0, 0.0], [[0], [0]], [[1.0], [1.0]])
    assert fit.state()["batches"] == []
    for _ in range(20):
        fit.add([1.0, 1.0, 1.0], [[0], [1], [2]], np.ones((3, 2)))
    assert fit.read([0.1, 0.1])[1] == 0


def test_a_large_batch_is_looked_at_in_part() -> None:
    rng, fit = np.random.default_rng(0), TransferFit(similarity)
    prompts = 2 * MOST_PROMPTS
    fit.add(rng.random(prompts), np.arange(prompts)[:, None], rng.normal(size=(prompts, 2)))
    # the centred identity has trace P - 1 with itself; tables are divided by P
    assert fit.state()["batches"][0][0, 1] == pytest.approx((MOST_PROMPTS - 1) / MOST_PROMPTS)


def test_it_continues_from_its_state() -> None:
    world, first, second = Clusters(0, related=True), TransferFit(similarity), TransferFit(similarity)
    for _ in range(30):
        first.add(*world.batch())
    second.load_state(first.state())
    batch = world.batch()
    for fit in (first, second):
        fit.add(*batch)
    assert first.read(GIVEN)[1] == second.read(GIVEN)[1] > 0
