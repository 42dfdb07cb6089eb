from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from groupwise.report.reading import read_run
from groupwise.report.sections.overview import facts, setup, story
from groupwise.report.sections.recipe import changed

from .fake_run import make_run
from .test_curves import run_of


def test_rows_become_columns_and_the_later_of_two_counts(tmp_path: Path) -> None:
    rows = [
        {"step": 2, "loss": 0.2},
        {"step": 1, "loss": None, "text": "x"},
        {"step": 2, "loss": 0.3, "eval/pass@1": 0.5},
        {"loss": 9.0},
    ]
    run = run_of(tmp_path, rows)
    np.testing.assert_array_equal(run.steps, [1, 2])
    np.testing.assert_array_equal(run.column("loss"), [np.nan, 0.3])
    np.testing.assert_array_equal(run.column("eval/pass@1"), [np.nan, 0.5])
    assert "text" not in run.metrics and np.isnan(run.column("unheard of")).all()


def test_settings_by_dotted_key(finished: Path) -> None:
    run = read_run(finished)
    assert run.setting("rollout.group_size") == 8
    assert run.setting("rollout.nothing") is None and run.setting("seed.deeper") is None


def test_rollouts_of_each_update_come_from_the_running_total(tmp_path: Path) -> None:
    run = run_of(tmp_path, [{"step": s, "rollouts/total": t} for s, t in ((1, 10), (2, 25), (4, 50), (5, 60))])
    np.testing.assert_array_equal(run.rollouts_by_step(), [10, 15, np.nan, 10])


def test_the_overview_of_an_unfinished_run_counts_the_rows(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", steps=5, asked=90, finished=False))
    values = {label: (value, remark) for label, value, remark in facts(run)}
    assert values["Rollouts"][0] == "640" and "dropped" in values["Rollouts"][1]
    assert set(values) == {"Rollouts", "Tokens", "Training time", "Peak memory"}
    assert story(run) == (
        "seedling, trained by reinforcement on 8 tasks: 5 of 90 updates, 16 prompts \u00d7 8 completions an update."
    )


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("advantage: {kind: hierarchical}\nrollout: {group_size: 1, batch_size: 64, repeat: 0.15}",
         "56 prompts \u00d7 1 completion (8 of them twice) an update."),
        ("advantage: {kind: hierarchical}\nrollout: {group_size: 1, batch_size: 64, repeat: 0}",
         "64 prompts \u00d7 1 completion an update."),
        ("advantage: {kind: hierarchical}\nrollout: {group_size: 2, batch_size: 64, repeat: 0.15}",
         "32 prompts \u00d7 2 completions an update."),
        ("advantage: {kind: spo}\nrollout: {group_size: 1, batch_size: 64, repeat: 0.15}",
         "64 prompts \u00d7 1 completion an update."),
    ],
)  # fmt: skip
def test_the_story_tells_what_is_drawn(tmp_path: Path, recipe: str, words: str) -> None:
    assert story(run_of(tmp_path, [{"step": 1, "loss": 0.1}], recipe=recipe)).endswith(f"1 update, {words}")


def test_the_setup_names_what_matters(finished: Path) -> None:
    shown = {label: (value, remark) for label, value, remark in setup(read_run(finished))}
    assert shown["Advantage"][0] == "hierarchical" and shown["Loss"] == ("dapo", "")
    assert shown["Sampling"] == ("temperature 1", "at most 96 tokens, seed 0")
    assert shown["Rewards"] == ("accuracy, format", "format \u00d70.1")


def test_the_recipe_says_what_differs_from_the_defaults(finished: Path) -> None:
    found = {key: (value, default) for key, value, default in changed(read_run(finished).recipe)}
    assert found["update.learning_rate"] == ("0.0002", "1.0e-06")
    assert found["tasks"][0].startswith("chain_sum, products")
    assert "seed" not in found and "loss.kind" not in found
    assert changed({"not": {"a key": [1, 2]}}) == [("not.a key", "[1, 2]", "")]


def test_numbers_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(
        json.dumps({"step": 1, "loss": float("nan"), "policy/entropy": float("inf"), "reward/mean": 1}) + "\n"
    )
    assert set(read_run(tmp_path).metrics) == {"reward/mean"}
