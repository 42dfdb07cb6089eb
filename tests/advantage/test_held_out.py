"""The comparison of baselines on rewards that they have not seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groupwise.advantage import global_advantages, hierarchical_advantages, rloo_advantages
from groupwise.advantage.held_out import _reassigned, held_out_errors
from groupwise.types import Evidence, Floats, Ints

from .dense import trees

QUICK = settings(max_examples=30, deadline=None)
NAMES = {"hierarchical", "random", "flat", "global", "prompt"}


def errors(rewards: Floats, levels: Ints, evidence: Evidence, seed: int = 0) -> dict[str, float]:
    return held_out_errors(rewards, levels, evidence, np.random.default_rng(seed))


def simulated(seed: int, variances: tuple[float, float, float], sizes: int = 2) -> tuple[Floats, Ints]:
    """rewards [N], levels [N, 2] of 60 prompts in 6 clusters."""
    rng = np.random.default_rng(seed)
    cluster = rng.integers(0, 6, 60)
    mean = rng.normal(0, variances[0] ** 0.5, 6)[cluster] + rng.normal(0, variances[1] ** 0.5, 60)
    levels = np.repeat(np.stack([cluster, np.arange(60)], axis=1), sizes, axis=0)
    return np.repeat(mean, sizes) + rng.normal(0, variances[2] ** 0.5, len(levels)), levels


@QUICK
@given(levels=trees(), seed=st.integers(0, 1000), with_history=st.booleans())
def test_each_is_the_mean_square_of_its_advantages(levels: Ints, seed: int, with_history: bool) -> None:
    rng = np.random.default_rng(seed)
    rewards, variances = rng.normal(size=len(levels)), rng.random(levels.shape[1] + 1)
    history = (rng.random(len(levels)), np.ones(len(levels)), levels) if with_history else None
    found = errors(rewards, levels, Evidence(variances=variances, ready=True, history=history), seed)
    assert {*found} == NAMES

    def square(advantages: Floats) -> float:
        return float((advantages**2).mean())

    assert found["hierarchical"] == pytest.approx(
        square(hierarchical_advantages(rewards, levels, variances, history=history))
    )
    past = (*history[:2], levels[:, -1:]) if history else None
    pooled = [variances[:-1].sum(), variances[-1]]
    assert found["flat"] == pytest.approx(
        square(hierarchical_advantages(rewards, levels[:, -1:], pooled, history=past))
    )
    overall, prompt = global_advantages(rewards, levels), rloo_advantages(rewards, levels)
    assert found["global"] == pytest.approx(square(overall))
    alone = [(levels[:, -1] == own).sum() == 1 for own in levels[:, -1]]
    assert found["prompt"] == pytest.approx(square(np.where(alone, overall, prompt)))


def test_without_rivals_the_others_are_the_same() -> None:
    rewards, levels = simulated(0, (0.2, 0.02, 0.2))
    evidence = Evidence(variances=np.array([0.2, 0.02, 0.2]), ready=True)
    every = errors(rewards, levels, evidence)
    few = held_out_errors(rewards, levels, evidence, np.random.default_rng(0), rivals=False)
    assert few == {name: every[name] for name in NAMES - {"random", "flat"}}


def test_true_groups_beat_random_ones_which_do_no_better_than_none() -> None:
    variances = (0.2, 0.02, 0.2)
    evidence = Evidence(variances=np.array(variances), ready=True)
    runs = [errors(*simulated(seed, variances), evidence, seed) for seed in range(60)]
    mean = {name: np.mean([run[name] for run in runs]) for name in NAMES}
    assert mean["hierarchical"] < 0.95 * mean["flat"]
    assert mean["hierarchical"] < 0.9 * min(mean["random"], mean["global"], mean["prompt"])
    assert mean["random"] > 0.98 * mean["flat"]


def test_random_groups_take_their_past_with_them() -> None:
    rewards, levels = simulated(0, (0.2, 0.02, 0.2))
    rng, variances = np.random.default_rng(3), np.array([0.2, 0.02, 0.2])
    history = rng.random(len(levels)), np.ones(len(levels)), levels
    found = errors(rewards, levels, Evidence(variances=variances, ready=True, history=history))
    dealt = _reassigned(np.concatenate([levels, levels]), np.random.default_rng(0))
    now, past = np.split(dealt, 2)
    assert (now == past).all()
    expected = hierarchical_advantages(rewards, now, variances, history=(*history[:2], past))
    assert found["random"] == pytest.approx(float((expected**2).mean()))


def test_without_a_level_to_deal_random_is_the_tree_itself() -> None:
    rewards, levels = simulated(0, (0.1, 0.1, 0.1))
    found = errors(rewards, levels[:, -1:], Evidence(variances=np.array([0.1, 0.1]), ready=True))
    assert found["random"] == found["hierarchical"] == found["flat"]


def test_until_ready_the_tree_is_the_global_mean_as_it_is_in_training() -> None:
    rewards, levels = simulated(0, (0.1, 0.1, 0.1))
    found = errors(rewards, levels, Evidence(variances=np.array([0.1, 0.1, 0.1])))
    assert found["hierarchical"] == found["random"] == found["flat"] == found["global"] != found["prompt"]


def test_one_rollout_a_prompt_has_the_global_mean_for_its_prompts() -> None:
    rewards, levels = simulated(0, (0.1, 0.1, 0.1), sizes=1)
    found = errors(rewards, levels, Evidence(variances=np.array([0.1, 0.1, 0.1]), ready=True))
    assert found["prompt"] == found["global"]


def test_the_seed_decides_the_random_groups_alone() -> None:
    rewards, levels = simulated(0, (0.3, 0.1, 0.1))
    evidence = Evidence(variances=np.array([0.3, 0.1, 0.1]), ready=True)
    one, same, other = (errors(rewards, levels, evidence, seed) for seed in (0, 0, 1))
    assert one == same
    assert {name for name in NAMES if one[name] != other[name]} == {"random"}


def test_errors_of_the_input() -> None:
    evidence = Evidence(variances=np.array([0.1, 0.1]), ready=True)
    with pytest.raises(ValueError, match=r"variances is \[2\]"):
        errors(np.ones(2), np.zeros((2, 2), dtype=int), evidence)
    with pytest.raises(ValueError, match="rewards is"):
        errors(np.ones(0), np.zeros((0, 1), dtype=int), evidence)


def test_what_is_known_of_the_tree_is_not_computed_again() -> None:
    rewards, levels = simulated(0, (0.2, 0.02, 0.2))
    evidence = Evidence(variances=np.array([0.2, 0.02, 0.2]), ready=True)
    known = hierarchical_advantages(rewards, levels, evidence.variances)
    rng = np.random.default_rng(0)
    assert held_out_errors(rewards, levels, evidence, rng, {"hierarchical": known}) == errors(rewards, levels, evidence)
    assert held_out_errors(rewards, levels, evidence, rng, {"hierarchical": 0 * known})["hierarchical"] == 0
    assert held_out_errors(rewards, levels, evidence, rng, {"kernel": 0 * known})["kernel"] == 0
