"""The race: TRL is tuned first, seeds come in pairs, and both curves are read by the same rule."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from time_to_score.analysis import compare, interval, score, seconds_to
from time_to_score.plan import GROUPS, RATES, TUNING_SEEDS, Job, best_setting, next_job
from time_to_score.report import analyse, as_text
from time_to_score.training import run


def curve(*scores: float, seconds: float = 10.0, rollouts: int = 128) -> list[dict[str, Any]]:
    """Points at equal distances; two tasks, around the score."""
    return [
        {"rollouts": n * rollouts, "seconds": n * seconds, "by_task": {"a": value - 0.1, "b": value + 0.1}}
        for n, value in enumerate(scores)
    ]


# --- the plan

RIVALS = (1, 4)


def made_up(job: Job) -> float:
    """Scores whose best rate is the third, and whose best group is the last."""
    if job.setting is None:
        return 0.9
    return 0.5 - abs(RATES.index(job.setting.rate) - 2) / 10 + 0.05 * GROUPS.index(job.setting.group)


def all_jobs(seeds: tuple[int, ...], steps: int = 60, rivals: tuple[int, ...] = (1,)) -> list[Job]:
    scores: dict[str, float] = {}
    jobs = []
    while job := next_job(scores, seeds, steps, rivals):
        scores[job.name] = made_up(job)
        jobs.append(job)
    for minibatches in rivals:
        assert best_setting(scores, steps, minibatches) == (RATES[2], GROUPS[-1], minibatches)
    return jobs


def test_the_better_half_of_the_rates_gets_a_second_seed_and_the_best_the_other_group_sizes() -> None:
    tuning = [(job.setting, job.seed) for job in all_jobs((0,)) if job.tunes]
    first, second = TUNING_SEEDS
    assert tuning[:4] == [((rate, GROUPS[0], 1), first) for rate in RATES]
    assert {rate for (rate, _, _), _ in tuning[4:6]} >= {RATES[2]}
    assert {seed for _, seed in tuning[4:6]} == {second}
    assert tuning[6:] == [((RATES[2], group, 1), seed) for group in GROUPS[1:] for seed in TUNING_SEEDS]


def test_the_sides_take_turns_in_beginning() -> None:
    runs = [job for job in all_jobs((0, 1, 2), rivals=RIVALS) if not job.tunes]
    sides = [job.setting.minibatches if job.setting else 0 for job in runs]
    assert sides == [0, 1, 4, 1, 4, 0, 4, 0, 1]
    assert [job.seed for job in runs] == [0] * 3 + [1] * 3 + [2] * 3


def test_no_seed_begins_before_trl_is_tuned() -> None:
    jobs = all_jobs((0, 1), rivals=RIVALS)
    assert all(not (later.tunes and not earlier.tunes) for earlier, later in pairwise(jobs))
    assert len({job.name for job in jobs}) == len(jobs)
    assert best_setting({}, 60, 1) is None


# --- the curves


def test_the_first_crossing_counts_between_evaluations_on_a_line() -> None:
    points = curve(0.2, 0.4, 0.3, 0.6)
    assert seconds_to(points, 0.3) == pytest.approx(5.0)
    assert seconds_to(points, 0.4) == pytest.approx(10.0)
    assert seconds_to(points, 0.5) == pytest.approx(20 + 10 * 2 / 3)
    assert seconds_to(points, 0.1) == 0.0
    assert seconds_to(points, 0.7) is None


def test_a_curve_that_takes_half_the_seconds_is_twice_as_fast() -> None:
    found = compare(curve(0.2, 0.4, 0.6), curve(0.2, 0.4, 0.6, seconds=5.0))
    assert found["ratio"] == pytest.approx(2.0)
    assert found["update_ratio"] == pytest.approx(2.0)
    assert found["reached"] and found["target"] == pytest.approx(0.6)


def test_learning_more_from_a_rollout_counts_too() -> None:
    found = compare(curve(0.2, 0.4, 0.6), curve(0.2, 0.6, 0.7))
    assert found["ratio"] == pytest.approx(2.0)
    assert found["update_ratio"] == pytest.approx(1.0)


def test_an_end_that_was_reached_before_is_reached_there_on_both_sides() -> None:
    wobbling = curve(0.2, 0.6, 0.5, 0.6)
    assert compare(wobbling, wobbling)["ratio"] == pytest.approx(1.0)
    assert compare(wobbling, wobbling)["trl_seconds"] == pytest.approx(10.0)


def test_a_target_that_is_never_reached_counts_the_whole_training() -> None:
    found = compare(curve(0.2, 0.6), curve(0.2, 0.3, 0.4))
    assert not found["reached"]
    assert found["ours_seconds"] == 20.0 and found["ratio"] == pytest.approx(0.5)


def test_there_is_no_race_to_a_score_that_was_there_at_the_start() -> None:
    with pytest.raises(ValueError, match="no score to race to"):
        compare(curve(0.45, 0.4), curve(0.45, 0.5))


def test_the_mean_is_geometric_and_its_interval_covers_the_truth() -> None:
    mean, low, high = interval([2.0, 8.0, 4.0])
    assert mean == pytest.approx(4.0)
    assert low * high == pytest.approx(mean**2)
    samples = np.exp(np.random.default_rng(0).normal(size=(1000, 5)))
    assert np.mean([low <= 1 <= high for _, low, high in map(interval, samples)]) == pytest.approx(0.95, abs=0.02)
    assert interval([3.0] * 5) == pytest.approx((3.0, 3.0, 3.0))
    assert interval([0.5, 0.125, 0.25])[0] == pytest.approx(1 / mean)


def test_the_interval_narrows_with_seeds() -> None:
    ratios = np.exp(np.random.default_rng(0).normal(size=64))
    few, many = interval(ratios[:8]), interval(ratios)
    assert many[2] / many[1] < few[2] / few[1]


# --- the report


def results_of(seeds: tuple[int, ...], ours: list[dict[str, Any]], foreign: float = 0.0) -> dict[str, Any]:
    machine = {"cpu": "a CPU", "cores": "2", "gpu": "none", "torch": "2.13"}
    found = {}
    for job in all_jobs(seeds):
        points = curve(0.2, made_up(job)) if job.setting else ours
        known: dict[str, Any] = {"side": "trl" if job.setting else "ours", "seed": job.seed, "steps": job.steps}
        known |= {"eval_prompts": 100, "eval_every": 3}
        known |= job.setting._asdict() if job.setting else {}
        found[job.name] = {**known, "points": points, "foreign": foreign, "machine": machine}
    return found


def test_the_report_takes_the_pairs_that_are_whole() -> None:
    found = results_of((0, 1, 2), curve(0.2, 0.6, seconds=5.0))
    del found["ours-1-60"]
    analysed = analyse(found, (0, 1, 2, 3), 60, 1)
    assert [pair["seed"] for pair in analysed["pairs"]] == [0, 2]
    assert (analysed["rate"], analysed["group"], analysed["minibatches"]) == (RATES[2], GROUPS[-1], 1)
    assert analysed["ratio"] == pytest.approx(2.0)
    assert len(analysed["tuning"]) == 10
    text = as_text(analysed)
    assert ("**2.00** times" in text and "over 2 seeds" in text and "1.6e" in text) or "0.00016" in text
    assert "did not get to" not in text and "Other processes" not in text


def test_the_report_says_what_is_weak() -> None:
    text = as_text(analyse(results_of((0, 1), curve(0.2, 0.3), foreign=0.5), (0, 1), 60, 1))
    assert "On 2 of 2 seeds ours did not get to TRL's score" in text and "times as fast to" not in text
    assert "| > 10 | < " in text and "Other processes" in text


def test_there_is_no_report_before_there_is_a_pair() -> None:
    with pytest.raises(SystemExit, match="not tuned"):
        analyse({}, (0,), 60, 1)
    with pytest.raises(SystemExit, match="fewer than two seeds"):
        analyse(results_of((0,), curve(0.2, 0.3)), (0, 7), 60, 1)


@pytest.mark.parametrize(("key", "value"), [("eval_prompts", 300), ("machine", {"cpu": "another"})])
def test_only_what_is_alike_is_compared(key: str, value: Any) -> None:
    found = results_of((0, 1), curve(0.2, 0.6))
    found["ours-1-60"][key] = value
    with pytest.raises(SystemExit, match=f"seed 1: the sides differ in {key}"):
        analyse(found, (0, 1), 60, 1)


def test_a_score_is_the_mean_of_the_tasks() -> None:
    assert score({"by_task": {"a": 0.2, "b": 0.6}}) == pytest.approx(0.4)


# --- processes


def test_a_run_leaves_its_output_and_tells_of_its_failure(tmp_path: Path) -> None:
    share = run([sys.executable, "-c", "print(1)"], tmp_path / "log", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "1\n" and 0 <= share <= 1.1
    with pytest.raises(SystemExit, match="a reason"):
        run([sys.executable, "-c", "raise SystemExit('a reason')"], tmp_path / "log")
