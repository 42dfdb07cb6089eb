"""The hierarchical leave-one-out advantages."""

from __future__ import annotations

import time
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groupwise import hierarchical_advantages
from groupwise.advantage import global_advantages, rloo_advantages
from groupwise.types import Floats, Ints

from .cases import Batch, batches
from .dense import covariance, dense_advantages, histories, trees

QUICK = settings(max_examples=40, deadline=None)
MANY = settings(max_examples=300, deadline=None)
seeds = st.integers(0, 2**32 - 1)
THREE = np.array([[0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 1, 2], [0, 1, 2], [0, 1, 2], [1, 2, 3], [1, 3, 4]])
REWARDS = np.array([1.0, 0.0, 0.3, 1.0, 1.0, 0.2, 0.0, 0.7])


def drawn(levels: Ints, seed: int) -> tuple[Floats, Floats]:
    """Rewards [N] and variances [L + 1]."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=len(levels)) + rng.normal(), rng.exponential(size=levels.shape[1] + 1) + 1e-3


@MANY
@given(data=st.data(), levels=trees(), seed=seeds, with_history=st.booleans(), with_prior=st.booleans())
def test_it_is_the_best_linear_prediction(
    data: st.DataObject, levels: Ints, seed: int, with_history: bool, with_prior: bool
) -> None:
    rewards, variances = drawn(levels, seed)
    options: dict[str, Any] = {"root_mean": 0.4, "root_precision": 2.5} if with_prior else {}
    if with_history:
        options["history"] = data.draw(histories(levels))
    result = hierarchical_advantages(rewards, levels, variances, **options)
    np.testing.assert_allclose(result, dense_advantages(rewards, levels, variances, **options), atol=1e-10)


@QUICK
@given(levels=trees(most_rows=10), seed=seeds)
def test_it_is_the_best_linear_prediction_whatever_the_scales_of_the_variances(levels: Ints, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rewards, counts = rng.normal(size=len(levels)), 10.0 ** rng.uniform(-14, 9, len(levels))
    variances = 10.0 ** rng.uniform(-12, 12, levels.shape[1] + 1)
    result = hierarchical_advantages(rewards, levels, variances, history=(counts * rewards[::-1], counts, levels))
    with mpmath.workdps(120):
        all_rewards = mpmath.matrix(np.concatenate([rewards, counts * rewards[::-1] / counts]))
        all_levels, rows = np.concatenate([levels, levels]), range(2 * len(levels))
        k = mpmath.matrix([[mpmath.mpf(0)] * len(rows) for _ in rows])
        for i in rows:
            k[i, i] += mpmath.mpf(variances[-1]) / mpmath.mpf(1 if i < len(levels) else counts[i - len(levels)])
            for j in rows:
                k[i, j] += mpmath.fsum(mpmath.mpf(v) for v in variances[:-1][all_levels[i] == all_levels[j]])
        inverse, one = k**-1, mpmath.ones(len(rows), 1)
        p = inverse - inverse * one * one.T * inverse / (one.T * inverse * one)[0]
        weighted = p * all_rewards
        expected = [float(weighted[i] / p[i, i]) for i in range(len(levels))]
    np.testing.assert_allclose(result, expected, atol=1e-9)


@QUICK
@given(data=st.data(), levels=trees(), seed=seeds, which=st.integers(0, 100), new=st.floats(-10, 10))
def test_the_baseline_does_not_contain_its_own_reward(
    data: st.DataObject, levels: Ints, seed: int, which: int, new: float
) -> None:
    rewards, variances = drawn(levels, seed)
    past, i = data.draw(histories(levels)), which % len(levels)
    changed = rewards.copy()
    changed[i] = new
    before = rewards - hierarchical_advantages(rewards, levels, variances, history=past)
    after = changed - hierarchical_advantages(changed, levels, variances, history=past)
    if len(levels) > 1 or len(past[0]):
        np.testing.assert_allclose(after[i], before[i], atol=1e-10)


@QUICK
@given(levels=trees(), seed=seeds, constant=st.floats(-100, 100), factor=st.floats(0.1, 10))
def test_permutation_shift_and_scale(levels: Ints, seed: int, constant: float, factor: float) -> None:
    rewards, variances = drawn(levels, seed)
    result = hierarchical_advantages(rewards, levels, variances)
    order = np.random.default_rng(seed).permutation(len(levels))
    permuted = hierarchical_advantages(rewards[order], levels[order], variances)
    np.testing.assert_allclose(permuted, result[order], atol=1e-11)
    np.testing.assert_allclose(hierarchical_advantages(rewards + constant, levels, variances), result, atol=1e-10)
    scaled = hierarchical_advantages(factor * rewards, levels, factor**2 * variances)
    np.testing.assert_allclose(scaled, factor * result, atol=1e-10)
    only_ratios_matter = hierarchical_advantages(rewards, levels, 1e6 * variances)
    np.testing.assert_allclose(only_ratios_matter, result, atol=1e-10)


@QUICK
@given(batch=batches(), within=st.sampled_from([0.0, 0.25, np.inf]))
def test_without_differences_between_groups_it_is_global(batch: Batch, within: float) -> None:
    result = hierarchical_advantages(*batch, [0, 0, within])
    np.testing.assert_allclose(result, global_advantages(*batch), atol=1e-12)


@QUICK
@given(batch=batches(), coarse=st.sampled_from([0.0, 1.0, np.inf]), within=st.sampled_from([0.0, 0.25]))
def test_with_endless_differences_between_prompts_it_is_rloo(batch: Batch, coarse: float, within: float) -> None:
    result = hierarchical_advantages(*batch, [coarse, np.inf, within])
    np.testing.assert_allclose(result, rloo_advantages(*batch), atol=1e-11)


@QUICK
@given(levels=trees(most_levels=1), seed=seeds)
def test_one_level_is_shrinkage_of_the_prompts_mean_and_coarse_levels_without_variance_change_nothing(
    levels: Ints, seed: int
) -> None:
    rewards, (s_p, s_w) = drawn(levels, seed)
    expected = np.zeros_like(rewards)
    prompts = {p: rewards[levels[:, 0] == p] for p in np.unique(levels)}
    for i, p in enumerate(levels[:, 0]):
        others = [(r.mean(), 1 / (s_p + s_w / len(r))) for q, r in prompts.items() if q != p]
        weight = sum(w for _, w in others)
        n, total = len(prompts[p]), prompts[p].sum()
        k = s_w / (1 / weight + s_p) if others else 0.0
        mean = sum(w * m for m, w in others) / weight if others else 0.0
        expected[i] = rewards[i] - (k * mean + total - rewards[i]) / (k + n - 1) if k + n > 1 else 0.0
    np.testing.assert_allclose(hierarchical_advantages(rewards, levels, [s_p, s_w]), expected, atol=1e-11)
    domain = np.zeros_like(levels)
    wide = np.concatenate([domain, levels % 3, levels], axis=1)
    np.testing.assert_allclose(hierarchical_advantages(rewards, wide, [0, 0, s_p, s_w]), expected, atol=1e-11)


@QUICK
@given(seed=seeds, variance=st.sampled_from([0.0, 0.3, 1e6, np.inf]))
def test_the_variance_of_a_single_domain_does_not_matter(seed: int, variance: float) -> None:
    rewards, _ = drawn(THREE, seed)
    levels = THREE.copy()
    levels[:, 0] = 7
    expected = hierarchical_advantages(rewards, levels[:, 1:], [0.1, 0.2, 0.25])
    np.testing.assert_allclose(hierarchical_advantages(rewards, levels, [variance, 0.1, 0.2, 0.25]), expected)


def test_one_rollout_a_prompt_depends_on_the_sum_of_prompt_and_noise_only() -> None:
    levels = THREE.copy()
    levels[:, 2] = np.arange(8)
    split = [hierarchical_advantages(REWARDS, levels, [0.1, 0.1, s_p, 0.4 - s_p]) for s_p in (0.0, 0.1, 0.4)]
    np.testing.assert_allclose(split[1], split[0], atol=1e-11)
    np.testing.assert_allclose(split[2], split[0], atol=1e-11)
    np.testing.assert_allclose(split[1], dense_advantages(REWARDS, levels, [0.1, 0.1, 0.1, 0.3]), atol=1e-12)
    assert (split[0] != 0).all()


@pytest.mark.parametrize("variances", [[0, 0, 0, 0], [1, 1, 1, 1], [np.inf, 0, 0, 1], [0, 0, np.inf, 0]])
def test_no_evidence_at_all(variances: list[float]) -> None:
    assert hierarchical_advantages([3.0], [[0, 0, 0]], variances).tolist() == [0.0]


def test_one_rollout_against_prior_or_history() -> None:
    one, path, variances = [3.0], [[0, 0, 0]], [1, 2, 3, 4]
    assert hierarchical_advantages(one, path, variances, root_mean=1.0, root_precision=0.1) == pytest.approx([2.0])
    past = ([6.0], [12.0], [[5, 6, 7]])
    assert hierarchical_advantages(one, path, variances, history=past) == pytest.approx([2.5])
    nothing = ([0.0], [0.0], [[5, 6, 7]])
    assert hierarchical_advantages(one, path, variances, history=nothing).tolist() == [0.0]


def test_prompts_that_are_no_noise_at_all_are_told_apart_exactly() -> None:
    # within 0: another rollout of the prompt tells all; a lone one is predicted from its siblings
    result = hierarchical_advantages([1, 1, 0, 4], [[0], [0], [1], [2]], [1, 0])
    np.testing.assert_allclose(result, [0, 0, -2.5, 3.5], atol=1e-9)
    # prompt and within 0: the same for clusters
    result = hierarchical_advantages([1, 1, 0, 4], [[0, 0], [0, 1], [1, 2], [2, 3]], [1, 0, 0])
    np.testing.assert_allclose(result, [0, 0, -2.5, 3.5], atol=1e-9)


@QUICK
@given(levels=trees(), seed=seeds)
def test_history_counts_as_rollouts(levels: Ints, seed: int) -> None:
    rewards, variances = drawn(levels, seed)
    old = np.random.default_rng(seed).random(len(levels)) < 0.5
    old[0] = False
    past = rewards[old], np.ones(old.sum()), levels[old]
    result = hierarchical_advantages(rewards[~old], levels[~old], variances, history=past)
    np.testing.assert_allclose(result, hierarchical_advantages(rewards, levels, variances)[~old], atol=1e-11)


def test_reasoning_steps_are_one_more_level_below_the_prompt() -> None:
    # two completions of each of two prompts of one task; a leaf is a completion's step, which starts from a state that
    # the step before may share with its sibling: the first step of both starts from the question itself
    task, prompt = [0] * 8, [0, 0, 0, 0, 1, 1, 1, 1]
    state = [0, 1, 0, 2, 3, 4, 3, 4]  # a second step from another state, or after the same first one
    scores, variances = np.array([1.0, 1.0, 0.0, 0.5, 0.0, 0.2, 0.4, 0.1]), [0.02, 0.05, 0.1, 0.08]
    levels = np.array([task, prompt, state]).T
    steps = hierarchical_advantages(scores, levels, variances)
    np.testing.assert_allclose(steps, dense_advantages(scores, levels, variances), atol=1e-12)
    # what is expected of a step is what its state promises: endless differences between states leave nothing else
    alone = hierarchical_advantages(scores, levels, [0.02, 0.05, np.inf, 0.08])
    np.testing.assert_allclose(alone, [1, 0, -1, 0, -0.4, 0.1, 0.4, -0.1], atol=1e-9)
    # states without differences are the tree of prompts, whose leaves are then the steps
    np.testing.assert_allclose(
        hierarchical_advantages(scores, levels, [0.02, 0.05, 0.0, 0.08]),
        hierarchical_advantages(scores, levels[:, :2], [0.02, 0.05, 0.08]),
        atol=1e-12,
    )
    # what was scored from a state before informs it, and its prompt
    past = np.array([3.0]), np.array([4.0]), levels[1:2]
    known = hierarchical_advantages(scores, levels, variances, history=past)
    np.testing.assert_allclose(known, dense_advantages(scores, levels, variances, history=past), atol=1e-12)
    assert known[1] != steps[1] != 0


def test_numbers_at_the_edge_of_floats() -> None:
    for tiny in (1e-320, 5e-324, 1e-300):
        result = hierarchical_advantages(REWARDS, THREE, [tiny] * 4)
        assert np.isfinite(result).all()
        assert (result[:2] != 0).all()
    flat = hierarchical_advantages(REWARDS, THREE, [0.1] * 4)
    assert (hierarchical_advantages(REWARDS, THREE, [0.1] * 4, root_mean=np.nan) == flat).all()  # precision 0: unasked


def test_pinned() -> None:
    result = hierarchical_advantages(REWARDS, THREE, [0.02, 0.03, 0.05, 0.2])
    expected = [0.705617, -0.682354, -0.235211, 0.481140, 0.481140, -0.560965, -0.603152, 0.290543]
    np.testing.assert_allclose(result, dense_advantages(REWARDS, THREE, [0.02, 0.03, 0.05, 0.2]), atol=1e-13)
    np.testing.assert_allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize("variances", [[0.1, 0.1, 0.1, 0.1], [0, 0, 0, 0], [np.inf, 0, 0, 0.1]])
def test_equal_rewards_have_advantage_exactly_zero(variances: list[float]) -> None:
    assert (hierarchical_advantages([0.1] * 8, THREE, variances) == 0).all()


def test_residuals_have_the_variance_that_the_model_says() -> None:
    # Var(A_i) = 1 / P_ii
    levels, variances = np.tile(THREE, (3, 1)) + 10 * np.repeat(np.arange(3), 8)[:, None], [0.05, 0.02, 0.05, 0.2]
    rng = np.random.default_rng(0)
    k = covariance(levels, np.ones(24), variances)
    rewards = rng.multivariate_normal(np.zeros(24), k, 2000)
    squares = np.mean([hierarchical_advantages(r, levels, variances) ** 2 for r in rewards], axis=0)
    one, inverse = np.ones(24), np.linalg.inv(k)
    p = inverse - np.outer(inverse @ one, inverse @ one) / (one @ inverse @ one)
    np.testing.assert_allclose(squares, 1 / np.diag(p), rtol=0.15)


def test_a_hundred_thousand_rollouts_take_a_fraction_of_a_second() -> None:
    rng = np.random.default_rng(0)
    prompt = rng.integers(0, 25_000, 100_000)
    levels, rewards = np.stack([prompt % 3000 % 16, prompt % 3000, prompt], axis=1), rng.random(100_000)
    seconds = []
    for _ in range(4):
        start = time.process_time()
        hierarchical_advantages(rewards, levels, [0.1, 0.1, 0.1, 0.2])
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.2


ONE = ([1.0, 0.0], [[0, 0], [0, 1]], [1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": []}, r"rewards is \[0\]"),
        ({"rewards": [1.0, np.nan]}, "reward nan of rollout 1"),
        ({"rewards": [np.inf, 1.0]}, "reward inf of rollout 0"),
        ({"levels": [0, 1]}, r"levels is \[2\]"),
        ({"levels": [[0.0, 0.0], [0.0, 1.0]]}, "levels is float64"),
        ({"levels": [[0, 7], [1, 7]]}, "id 7 of column 1 has two parents in column 0, 0 and 1"),
        ({"variances": [1.0, 1.0]}, r"variances is \[2\]; it must be \[L \+ 1\] = \[3\]"),
        ({"variances": [1.0, -0.5, 1.0]}, r"variances is \[1.0, -0.5, 1.0\]; each must be at least 0"),
        ({"variances": [1.0, np.nan, 1.0]}, "each must be at least 0"),
        ({"root_precision": -1.0}, "root_precision is -1.0"),
        ({"root_precision": np.nan}, "root_precision is nan"),
        ({"root_precision": np.inf, "root_mean": 0.0}, "root_precision is inf"),
        ({"root_precision": 1.0}, "root_mean is None"),
        ({"root_precision": 1.0, "root_mean": np.nan}, "root_mean is nan"),
        ({"history": ([1.0], [1.0, 1.0], [[0, 0]])}, r"history is \[1\], \[2\], \[1, 2\]"),
        ({"history": ([1.0], [1.0], [[0]])}, "with L = 2"),
        ({"history": ([1.0], [1.0], [[0.0, 0.0]])}, "history's levels is float64"),
        ({"history": ([1.0], [1.0])}, "history has 2 parts"),
        ({"history": ([1.0], [-1.0], [[0, 0]])}, "history's counts .* entry 0 is -1.0"),
        ({"history": ([1.0], [np.nan], [[0, 0]])}, "history's counts .* entry 0 is nan"),
        ({"history": ([1.0, np.inf], [1.0, 1.0], [[0, 0], [0, 0]])}, "history's sums .* entry 1 is inf"),
        ({"history": ([1.0], [1.0], [[3, 1]])}, "id 1 of column 1 has two parents in column 0, 0 and 3"),
        ({"history": ([1, 1], [1, 1], [[3, 8], [4, 8]])}, "id 8 of column 1 has two parents in column 0, 3 and 4"),
    ],
)
def test_errors_name_what_is_wrong(changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"rewards": ONE[0], "levels": ONE[1], "variances": ONE[2]} | changes
    with pytest.raises(ValueError, match=message):
        hierarchical_advantages(**arguments)


def test_input_is_not_changed_and_output_is_float64() -> None:
    rewards, levels = np.array([1.0, 0.0, 1.0], dtype=np.float32), np.array([[0], [0], [1]], dtype=np.int32)
    result = hierarchical_advantages(rewards, levels, [1, 1])
    assert (result.dtype, result.shape, rewards.tolist()) == (np.float64, (3,), [1, 0, 1])
