"""Variance components."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groupwise.grouping.variance import VarianceComponents
from groupwise.types import Floats, Ints

from .worlds import World, some_twice, unequal_sizes

QUICK = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def estimated(batches: list[tuple[Floats, Ints]], decay: float = 0.95) -> Floats:
    components = VarianceComponents(batches[0][1].shape[1], decay)
    for rewards, levels in batches:
        components.add(rewards, levels)
    return components.estimates()


def projection(ids: Ints) -> Floats:
    """[N, N] that gives every rollout its group's mean."""
    same = (ids[:, None] == ids).astype(float)
    return np.asarray(same / same.sum(1))


@QUICK
@given(seed=seeds)
def test_it_solves_expected_for_observed_sums_of_squares(seed: int) -> None:
    # the oracle: SS = r'Qr, whose expectation is the trace of Q K
    world, batches = World(seed, (0.1, 0.1, 0.1, 0.2), domains=3, clusters=2), []
    left, right = np.zeros((4, 4)), np.zeros(4)
    for _ in range(3):
        rewards, levels = world.batch(world.rng.integers(1, 5, 14))
        batches.append((rewards, levels))
        columns = [np.zeros(len(rewards), dtype=int), *levels.T, np.arange(len(rewards))]
        left, right = 0.9 * left, 0.9 * right
        for level in range(4):
            q = projection(columns[level + 1]) - projection(columns[level])
            right[level] += rewards @ q @ rewards
            for k in range(4):
                left[level, k] += np.trace(q @ (columns[k + 1][:, None] == columns[k + 1]))
    np.testing.assert_allclose(estimated(batches, 0.9), np.maximum(np.linalg.solve(left, right), 0), atol=1e-10)


@QUICK
@given(seed=seeds, constant=st.floats(-10, 10), factor=st.floats(0.1, 10))
def test_permutation_shift_scale_and_names(seed: int, constant: float, factor: float) -> None:
    world = World(seed, (0.1, 0.1, 0.1, 0.2))
    rewards, levels = world.batch(unequal_sizes(world.rng, 40))
    expected, order = estimated([(rewards, levels)]), world.rng.permutation(len(rewards))
    np.testing.assert_allclose(estimated([(rewards[order], 5 - 3 * levels[order])]), expected, atol=1e-10)
    np.testing.assert_allclose(estimated([(constant + factor * rewards, levels)]), factor**2 * expected, atol=1e-9)


@pytest.mark.parametrize("sizes", [unequal_sizes, some_twice])
def test_known_variances_come_back(sizes: Callable[[np.random.Generator], Ints]) -> None:
    # 60 clusters, some of them drawn more often, and 20 batches of 128 rollouts: one run knows the noise to 3 or 7 %,
    # the prompts to 20 % and the clusters to 30 or 45 %; what is tested is that nothing pulls them to one side
    true, estimates = np.array([0.04, 0.03, 0.05, 0.16]), []
    for seed in range(200):
        world = World(seed, (0.04, 0.03, 0.05, 0.16))
        estimates.append(estimated([world.batch(sizes(world.rng)) for _ in range(20)]))
    ratio = np.mean(estimates, axis=0) / true
    assert ratio[1:] == pytest.approx(1, abs=0.1)
    error = np.std(estimates, axis=0)[0] / true[0] / 200**0.5
    assert ratio[0] == pytest.approx(1, abs=2.5 * error)
    assert error < 0.06  # so this says something
    assert np.mean(np.abs(np.array(estimates)[:, 3] / true[3] - 1)) < 0.1


def test_a_small_variance_is_not_inflated_by_the_cut() -> None:
    # single batches often come out negative; cut one by one they would average to several times the truth
    world = World(0, (0.0, 0.0, 0.005, 0.2))
    batches = [world.batch(some_twice(world.rng, 64)) for _ in range(400)]
    one_by_one = np.mean([estimated([batch])[2] for batch in batches])
    together = estimated(batches, decay=1.0)[2]
    assert together < 0.02 < one_by_one


def test_later_batches_count_more() -> None:
    before, after = World(0, (0.1, 0.1, 0.1, 0.01)), World(1, (0.1, 0.1, 0.1, 0.2))
    batches = [world.batch(unequal_sizes(world.rng)) for world in (before, after) for _ in range(60)]
    assert estimated(batches)[3] == pytest.approx(0.19, abs=0.03)


def test_one_rollout_a_prompt_gives_the_sum_as_noise() -> None:
    world = World(0, (0.05, 0.05, 0.1, 0.2))
    components = VarianceComponents(3)
    for _ in range(100):
        components.add(*world.batch(np.ones(128, dtype=int)))
    assert components.estimates()[2] == 0
    assert components.estimates()[3] == pytest.approx(0.3, rel=0.15)
    assert not components.ready


def test_levels_that_cannot_be_told_apart_count_as_the_finest() -> None:
    # every cluster holds one prompt, and there is one domain: else prompts of a cluster would pass for one
    rng = np.random.default_rng(0)
    prompt = np.repeat(np.arange(2000), 4)
    rewards = np.repeat(rng.normal(0, 0.3, 2000), 4) + rng.normal(0, 0.4, 8000)
    result = estimated([(rewards, np.stack([prompt * 0, prompt, prompt], axis=1))])
    assert result[:2].tolist() == [0, 0]
    assert result[2:] == pytest.approx([0.09, 0.16], rel=0.1)
    several = estimated([(rewards, np.stack([prompt // 4, prompt // 2, prompt, prompt], axis=1))])
    assert several[2] == 0 and several[3] == pytest.approx(0.09, rel=0.15)
    assert np.abs(several[:2]).max() < 0.02


def test_nothing_known() -> None:
    assert VarianceComponents(2).estimates().tolist() == [0, 0, 0]
    assert estimated([(np.array([1.0]), np.array([[0, 0]]))]).tolist() == [0, 0, 0]
    assert estimated([(np.full(9, 0.1), np.stack([np.arange(9) // 6, np.arange(9) // 2], axis=1))]).tolist() == [0] * 3


def test_ready_after_twenty_degrees_of_freedom_within_prompts() -> None:
    components = VarianceComponents(1)
    components.add([], np.zeros((0, 1), dtype=int))
    for batch in range(4):
        assert not components.ready, batch
        components.add([0.0, 1.0] * 5 + [1.0], [[i // 2] for i in range(11)])  # five pairs and one alone
    assert components.ready


def test_resume_is_exact() -> None:
    world = World(0, (0.1, 0.1, 0.1, 0.2))
    whole, first = VarianceComponents(3), VarianceComponents(3)
    batches = [world.batch(unequal_sizes(world.rng)) for _ in range(4)]
    for batch in batches[:2]:
        whole.add(*batch)
        first.add(*batch)
    second = VarianceComponents(3)
    second.load_state(first.state())
    for batch in batches[2:]:
        whole.add(*batch)
        second.add(*batch)
    assert (second.estimates() == whole.estimates()).all()
    assert second.state() == whole.state()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VarianceComponents(0), "levels is 0"),
        (lambda: VarianceComponents(1, decay=0.0), "decay 0.0"),
        (lambda: VarianceComponents(1).add([np.nan], [[0]]), "rewards must be finite"),
        (lambda: VarianceComponents(2).add([1.0], [[0]]), r"levels is \[1, 1\]; it must be \[N, L\] = \[1, 2\]"),
    ],
)
def test_errors(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
