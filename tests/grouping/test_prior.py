"""EBPO's running prior."""

from __future__ import annotations

import numpy as np
import pytest

from groupwise.grouping.prior import RunningPrior

from .worlds import unequal_sizes


def test_batches_add_up_to_the_whole() -> None:
    rng = np.random.default_rng(0)
    prompts, parts = np.repeat(np.arange(40), rng.integers(1, 6, 40)), RunningPrior()
    rewards = 100 + rng.random(len(prompts))
    for part in np.array_split(np.arange(40), 7):
        parts.add(rewards[np.isin(prompts, part)], prompts[np.isin(prompts, part)])
    parts.add([], [])
    at_once = RunningPrior()
    at_once.add(rewards, prompts)
    np.testing.assert_allclose(parts.read(), at_once.read(), rtol=1e-9)


def test_pinned() -> None:
    prior = RunningPrior()
    prior.add([0.0], [0])
    assert prior.read() is None  # no prompt was seen twice
    prior.add([1.0, 0.0, 1.0, 1.0], [3, 3, 5, 5])
    # means 0, .5 and 1 of one, two and two rollouts; within .5/2, spread .25
    assert prior.read() == pytest.approx((0.5, max(0.0, 0.25 - 0.25 * 2 / 3), 0.25))


def test_it_finds_the_variances() -> None:
    rng, prior = np.random.default_rng(0), RunningPrior()
    for _ in range(100):
        sizes = unequal_sizes(rng)
        effects = rng.normal(0, 0.2, len(sizes))
        prompts = np.repeat(np.arange(len(sizes)), sizes)
        prior.add(0.4 + effects[prompts] + rng.normal(0, 0.4, len(prompts)), prompts)
    np.testing.assert_allclose(prior.read(), (0.4, 0.04, 0.16), rtol=0.05)


def test_prompts_that_do_not_differ() -> None:
    prior = RunningPrior()
    prior.add([1.0, 0.0, 1.0, 0.0], [0, 0, 1, 1])
    assert prior.read() == (0.5, 0.0, 0.5)


def test_it_continues_from_its_state() -> None:
    first, second = RunningPrior(), RunningPrior()
    first.add([1.0, 0.0, 0.5], [0, 0, 1])
    second.load_state(first.state())
    for prior in (first, second):
        prior.add([0.3, 0.4], [0, 0])
    assert first.read() == second.read()
    assert first.state() == second.state()
