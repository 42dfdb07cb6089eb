"""The study of sample efficiency: its resampling, its theory, its schedule of runs, and what it says of curves."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from sample_efficiency.curves import (
    area,
    area_by_task,
    final,
    interval,
    iqm,
    points,
    rollouts_ratio,
    rollouts_to,
    worst,
)
from sample_efficiency.plan import ARMS, MIXES, SLOW, TUNING_SEEDS, Job, Plan, best_rate, next_jobs
from sample_efficiency.relabel import DOMAINS, KINDS
from sample_efficiency.report import analyse, paired
from sample_efficiency.resampling import Pool, draw, learn, oracle, resample, shuffled, sizes
from sample_efficiency.spread import bias, components, rows, theory, trace

ORDER = ("hierarchical task", "hierarchical domain", "rloo")  # by their noise
TASKS, EACH, SAMPLES, WIDTH = 4, 6, 32, 24


def made_up_pool(seed: int = 0) -> Pool:
    """A world that is known: two rewards, pass rates by family and prompt, and score vectors of mean zero.

    A rollout's gradient is drawn around (r - p) v with v its prompt's own, so E r g = p (1 - p) v and E g = 0.
    """
    rng = np.random.default_rng(seed)
    families = np.repeat(np.arange(TASKS), EACH)
    rate = np.clip(np.array([0.15, 0.4, 0.6, 0.85])[families] + rng.normal(0, 0.1, families.size), 0.05, 0.95)
    rewards = (rng.random((families.size, SAMPLES)) < rate[:, None]).astype(float)
    direction = 1 + 0.3 * rng.normal(size=(families.size, WIDTH))
    gradients = (rewards - rate[:, None])[:, :, None] * direction[:, None] + rng.normal(
        size=(families.size, SAMPLES, WIDTH)
    )
    groups = np.stack([families // 2, families], axis=1)
    return Pool(rewards=rewards, gradients=gradients.astype(np.float32), families=families, groups=groups)


# --- resampling


@pytest.mark.parametrize("group", [1, 2, 4, 8])
def test_a_batch_has_equal_families_and_different_rollouts(group: int) -> None:
    pool, rng = made_up_pool(), np.random.default_rng(group)
    batch = draw(pool, sizes(32, group), shuffled(pool, rng)[:, :16], rng)
    assert len(batch.prompt) == 32
    assert len(set(zip(batch.prompt.tolist(), batch.place.tolist(), strict=True))) == 32
    assert set(np.bincount(batch.draw)) == {group}
    assert np.bincount(pool.families[batch.prompt]).tolist() == [8] * TASKS


def test_some_prompts_come_twice_where_one_rollout_each_tells_nothing() -> None:
    found = sizes(96, 1, 0.15)
    assert found.sum() == 96
    assert (found == 2).sum() == 13
    assert set(sizes(96, 2, 0.15)) == {2}


def test_a_prompt_that_has_too_few_rollouts_is_told() -> None:
    pool, rng = made_up_pool(), np.random.default_rng(0)
    with pytest.raises(ValueError, match="only 4 rollouts"):
        draw(pool, sizes(96, 8), shuffled(pool, rng)[:, :4], rng)


def test_variances_and_history_never_see_the_batch() -> None:
    """With the batch's half of the rewards replaced by others, what earlier batches teach stays the same."""
    pool = made_up_pool()
    order = shuffled(pool, np.random.default_rng(1))
    other = pool.rewards.copy()
    np.put_along_axis(other, order[:, :16], 7.0, axis=1)
    twin = Pool(rewards=other, gradients=pool.gradients, families=pool.families, groups=pool.groups)
    groups = pool.groups[:, :1]
    one, two = (learn(p, groups, sizes(32, 2), order[:, 16:], np.random.default_rng(2)) for p in (pool, twin))
    assert one.variances.tolist() == two.variances.tolist()
    assert one.history[0].tolist() == two.history[0].tolist()
    assert one.variances[0] > 0.01  # families of the two domains differ
    assert one.history[1].sum() == 8 * 32


def test_the_oracle_leaves_its_own_reward_out() -> None:
    pool, rng = made_up_pool(), np.random.default_rng(0)
    batch = draw(pool, sizes(32, 4), shuffled(pool, rng), rng)
    prompt, place = int(batch.prompt[5]), int(batch.place[5])
    others = np.delete(pool.rewards[prompt], place)
    assert oracle(pool, batch)[5] == pytest.approx(pool.rewards[prompt, place] - others.mean())


def test_the_estimators_are_where_theory_has_them() -> None:
    pool = made_up_pool()
    found = {group: resample(pool, 32, group, 60, seed=0) for group in (1, 2, 8)}
    by_name = {(row["estimator"], row["group_size"]): row for row in rows(pool, found, 32)}
    assert ("rloo", 1) not in by_name
    assert ("hierarchical domain", 1) in by_name
    for group in (2, 8):
        row = by_name["rloo", group]
        assert row["advantage_square_over_within"] == pytest.approx(group / (group - 1), rel=0.1)
        assert abs(row["bias"]["along"]) < 0.12  # the pool is its population, so only the number of trials errs
        # grpo's mean contains the reward itself: 1/G of the gradient is lost
        assert by_name["grpo", group]["bias"]["along"] == pytest.approx(-1 / group, abs=0.1)
        assert by_name["grpo", group]["bias"]["along_z"] < -3
        assert by_name["grpo", group]["trace_unbiased"] == pytest.approx(row["trace"], rel=0.1)
    for row in by_name.values():
        if row["estimator"] != "grpo":
            assert abs(row["bias"]["along_z"]) < 4
    for one, other in pairwise(ORDER):
        assert by_name[one, 2]["trace"] < by_name[other, 2]["trace"]


def test_the_theory_of_one_level() -> None:
    assert theory("rloo", 2, 0.3) == 2
    assert theory("grpo", 4, 0.3) == 0.75
    assert theory("hierarchical domain", 2, 0.3) == pytest.approx(1.3)
    assert theory("hierarchical domain", 1, 0.25) == pytest.approx(theory("global", 1, 0.25))
    assert theory("hierarchical domain", 8, 1.0) == pytest.approx(8 / 7)  # nothing shared but by siblings: rloo
    assert theory("jspo", 2, 0.3) is None


def test_components_are_those_the_rewards_were_drawn_with() -> None:
    rng = np.random.default_rng(0)
    between, within = components(rng.normal(0, 0.5, (4000, 1)) + rng.normal(0, 1.0, (4000, 8)))
    assert between == pytest.approx(0.25, rel=0.1)
    assert within == pytest.approx(1.0, rel=0.05)


def test_the_trace_is_that_of_the_covariance() -> None:
    updates = np.random.default_rng(0).normal(size=(500, 3)) * [1, 2, 3]
    value, error = trace(updates)
    assert value == pytest.approx(np.trace(np.cov(updates.T)))
    assert abs(value - 14) < 4 * error


def test_equal_trials_have_no_bias() -> None:
    trials = resample(made_up_pool(), 32, 2, 20, seed=0)["rloo"]
    assert bias(trials, trials) == {"along": 0.0, "along_error": 0.0, "along_z": 0.0, "rms_z": 0.0}


# --- the schedule


def test_rates_are_halved_and_then_seeds_run_side_by_side() -> None:
    plan = Plan(mixes=("demo",), arms=("grpo@8", "rloo@8"), rates=(1e-5, 1e-4, 1e-3), seeds=(0, 1))
    scores: dict[str, float] = {}
    run: list[Job] = []
    while jobs := next_jobs(plan, scores):
        job = jobs[0]
        run.append(job)
        scores[job.name] = {1e-5: 0.5, 1e-4: 0.7, 1e-3: 0.1}[job.rate]
    tuning = [job for job in run if job.seed in TUNING_SEEDS]
    assert len(tuning) == 2 * 3  # of three rates one goes on, so the second tuning seed is not needed
    assert {job.steps for job in tuning} == {MIXES["demo"].steps // 2}
    rest = [(job.seed, job.arm, job.rate) for job in run if job not in tuning]
    assert rest == [(0, "grpo@8", 1e-4), (0, "rloo@8", 1e-4), (1, "grpo@8", 1e-4), (1, "rloo@8", 1e-4)]
    assert best_rate(plan, "demo", "rloo@8", scores) == 1e-4


def test_of_five_rates_two_get_a_second_seed() -> None:
    plan, scores = Plan(mixes=("demo",), arms=("spo@1",), seeds=()), {}
    for _ in range(5):
        job = next_jobs(plan, scores)[0]
        scores[job.name] = job.rate  # the larger the better, on the first seed
    assert [job.rate for job in next_jobs(plan, scores)] == [3.2e-4, 1.6e-4]
    for job in next_jobs(plan, scores):
        scores[job.name] = 1 - 1000 * job.rate  # and the other way round on the second, by more
    assert best_rate(plan, "demo", "spo@1", scores) == 1.6e-4
    assert next_jobs(plan, scores) == []


def test_an_ablation_takes_the_rate_of_the_default() -> None:
    plan = Plan(mixes=("demo",), arms=("clusters@2",), seeds=(0,))
    assert {job.arm for job in next_jobs(plan, {})} == {"hierarchical@2"}
    assert [
        job.arm for job in next_jobs(Plan(mixes=("demo",), arms=("clusters@2",), rates=(1e-4,), seeds=(0,)), {})
    ] == ["clusters@2"]


def test_what_is_grouped_is_taken_apart_on_the_demos_tasks() -> None:
    arms = {mix: {job.arm for job in next_jobs(Plan(rates=(1e-4,)), {}) if job.mix == mix} for mix in MIXES}
    assert arms["demo"] == {name for name in ARMS if not name.endswith(" slow")}
    assert arms["demo"] - arms["scarce"] == {
        "domain@1", "domain@2", "domain@4", "random groups@2", "task names@2", "no history@2", "kernel@2",
    }  # fmt: skip


def test_the_reference_is_the_better_of_two_rates() -> None:
    job = {"mix": "confirmed", "steps": MIXES["confirmed"].steps, "seed": 8, "seconds": 1.0}
    runs = [{**job, "arm": "grpo@8", "rate": 1e-4, "curve": curve(0.2, 0.4)}]
    runs += [{**job, "arm": "grpo@8 slow", "rate": SLOW, "curve": curve(0.2, 0.6)}]
    runs += [{**job, "arm": "global@1", "rate": 1e-4, "curve": curve(0.2, 0.5)}]
    found = analyse(Plan(rates=(1e-4,)), "confirmed", runs)
    assert found["against"] == "grpo@8 slow"
    assert found["arms"]["global@1"]["paired"]["rollouts_ratio"][0] == 0


def test_confirmation_is_on_other_seeds_at_the_rates_that_were_tuned_before() -> None:
    plan, scores = Plan(mixes=("confirmed",), arms=("grpo@8",)), dict[str, float]()
    while (jobs := next_jobs(plan, scores)) and jobs[0].seed in TUNING_SEEDS:
        assert jobs[0].mix == "demo"
        scores[jobs[0].name] = jobs[0].rate
    assert {(job.mix, job.rate) for job in jobs} == {("confirmed", 3.2e-4)}
    assert not {job.seed for job in jobs} & {*MIXES["demo"].seeds, *TUNING_SEEDS}


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_is_a_recipe(arm: str) -> None:
    from sample_efficiency.places import DEMO

    from groupwise.config import Recipe
    from groupwise.recipes import load_recipe

    for mix in MIXES.values():
        recipe = load_recipe(Recipe, DEMO, [*mix.words, *ARMS[arm].words])
        assert recipe.rollout.group_size == int(arm.partition("@")[2].partition(" ")[0])
        assert recipe.rollout.batch_size == 128


def test_random_domains_do_not_depend_on_the_task() -> None:
    names = {KINDS["random"](task, f"{n:016x}") for task in ("gcd", "products") for n in range(100)}
    assert len(names) == DOMAINS
    assert KINDS["tasks"]("gcd", "0" * 16) == "gcd"


# --- curves


def curve(*rates: float, every: int = 100, tasks: int = 2) -> list[dict[str, Any]]:
    """Tasks .1 apart around these rates."""
    apart = 0.1 * (np.arange(tasks) - (tasks - 1) / 2)
    return [
        {"rollouts": every * n, "by_task": {f"task {t}": rate + apart[t] for t in range(tasks)}}
        for n, rate in enumerate(rates)
    ]


def test_areas_and_crossings_of_a_straight_line() -> None:
    line = curve(0.2, 0.4, 0.6)
    assert area(line) == pytest.approx(0.4)
    assert area_by_task(line) == pytest.approx({"task 0": 0.35, "task 1": 0.45})
    assert final(line) == pytest.approx(0.6)
    assert worst(line) == pytest.approx(0.55)
    assert rollouts_to(*points(line), 0.5) == pytest.approx(150)
    assert rollouts_to(*points(line), 0.2) == 0
    assert rollouts_to(*points(line), 0.7) is None


def test_the_middle_half_and_its_interval() -> None:
    assert iqm(np.array([-100.0, 1.0, 3.0, 100.0])) == 2
    values = np.random.default_rng(0).normal(0.5, 0.1, (8, 12))
    low, high = interval(values, draws=300)
    assert low < iqm(values) < high
    assert high - low < 0.1
    assert interval(np.full((3, 2), 0.4), draws=50) == pytest.approx((0.4, 0.4))


def test_twice_as_fast_is_a_ratio_of_two_and_never_is_zero() -> None:
    slow, fast, flat = curve(0.2, 0.4, 0.6), curve(0.2, 0.6, 0.6), curve(0.2, 0.2, 0.2)
    twice = paired([(fast, slow)] * 4)
    assert twice["rollouts_ratio"] == pytest.approx([2, 2, 2])
    assert twice["gain"] == pytest.approx([1.5, 1.5, 1.5])
    assert paired([(flat, slow)] * 4)["rollouts_ratio"] == [0, 0, 0]
    between = paired([(flat, slow), (fast, slow)])["rollouts_ratio"]
    assert between == pytest.approx([0, 0, 2])  # the mean curve ends at .4; of two draws in four both seeds are one


def test_noise_does_not_cross_early() -> None:
    """The first crossing of a noisy curve is early; that of the seeds' mean is about where the mean gets there."""
    rng = np.random.default_rng(0)
    level = np.linspace(0.2, 0.6, 9)
    mine, others = ([curve(*(level + rng.normal(0, 0.03, 9))) for _ in range(40)] for _ in range(2))
    assert rollouts_ratio(mine, others, draws=20)[0] == pytest.approx(1, abs=0.1)


def test_the_report_says_what_is_missing() -> None:
    plan = Plan(mixes=("demo",), rates=(1e-4,), seeds=(0, 1))
    job = {"mix": "demo", "rate": 1e-4, "steps": MIXES["demo"].steps}
    runs = [
        {**job, "arm": arm, "seed": seed, "seconds": 1.0, "curve": curve(0.2, rate)}
        for arm, seed, rate in (("grpo@8", 0, 0.4), ("grpo@8", 1, 0.4), ("rloo@8", 0, 0.6))
    ]
    found = analyse(plan, "demo", runs)
    assert set(found["arms"]) == {"grpo@8", "rloo@8"}
    assert found["arms"]["rloo@8"]["paired"]["area_difference"] == pytest.approx([0.1, 0.1, 0.1])
    assert found["arms"]["rloo@8"]["final"] == pytest.approx(0.6)
    assert found["missing"]["rloo@8"] == [1]
    assert found["missing"]["spo@1"] == [0, 1]
    assert "grpo@8" not in found["missing"]
    assert found["against"] == "grpo@8"
    assert found["beyond_global"] == {}
    both = [{**run, "arm": arm} for run, arm in zip(runs[1:], ("global@1", "hierarchical@1"), strict=True)]
    both = [{**run, "seed": 0} for run in both]
    (beyond,) = analyse(plan, "demo", both)["beyond_global"].items()
    assert beyond == ("hierarchical@1 - global@1", pytest.approx([0.1, 0.1, 0.1]))
    untuned = analyse(Plan(mixes=("demo",), seeds=(0,)), "demo", runs)
    assert untuned["arms"] == {}
    assert untuned["missing"]["grpo@8"] == "learning rate"
