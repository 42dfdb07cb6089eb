"""Who judges, which models, and no evaluation at all; rates and tables have tests of their own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from run.threads import in_threads
from tiny import tiny_model
from transformers import AutoTokenizer

from groupwise.config import Recipe, RewardConfig
from groupwise.run.world import World
from groupwise.stages.evaluate import Evaluator, evaluate_command, judge_rewards
from groupwise.types import Completion, Prompt, UserError

from .conftest import Write
from .inside import Marker
from .runs import Warm, recipe, rows, summary
from .stage_rewards import digits

NINES = [{"name": "nines", "function": "stages.stage_rewards:has_a_nine", "deadline": 60.0}]


def made(model: Path, **sections: Any) -> Recipe:
    return Recipe.model_validate(recipe(model, **sections))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("other") / "model", seed=1)


def names(*rewards: RewardConfig) -> list[str]:
    return [judge.name for judge in judge_rewards(Recipe(rewards=list(rewards)))]


def test_accuracy_judges_wherever_it_stands_and_else_the_first_reward() -> None:
    accuracy, short, tidy = (RewardConfig(name=name, weight=0.5) for name in ("accuracy", "short", "tidy"))
    assert names(short, accuracy, tidy) == ["accuracy"]
    assert names(short, tidy) == ["short"]
    assert [judge.weight for judge in judge_rewards(Recipe(rewards=[short]))] == [1]  # full is 1 whatever its weight
    assert short.weight == 0.5


def test_the_recipe_s_reward_decides_what_is_right(tiny: Path) -> None:
    judged = made(tiny, rewards=NINES)
    result = evaluate_command([str(tiny)], judged)
    assert 0 < result["pass@1"] < 1
    assert evaluate_command([str(tiny)], made(tiny, rewards=[{"name": "accuracy"}]))["pass@1"] == 0


def test_several_models_meet_the_same_prompts_and_seeds(tiny: Path, other: Path) -> None:
    judged = made(tiny, rewards=NINES, eval={"prompts": 16, "samples": 3})
    alone = evaluate_command([str(other)], judged)
    both = evaluate_command([str(tiny), str(other), str(tiny)], judged)
    json.dumps(both, allow_nan=False)
    assert both["models"][1] == alone
    assert both["models"][0] == both["models"][2] != alone
    different, same = both["differences"]
    assert (different["model"], different["against"]) == (str(other), str(tiny))
    assert different["pass@1"] == pytest.approx(alone["pass@1"] - both["models"][0]["pass@1"])
    assert same["by_task"] == {"easy": 0.0, "hard": 0.0}
    assert same["interval"][0] < 0 < same["interval"][1]
    assert not [result for result in both["models"] if "per_prompt" in result]


def test_a_model_that_is_not_there_is_told_before_the_others_are_evaluated(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"has no config\.json"):
        evaluate_command([str(tiny), str(tmp_path / "empty")], made(tiny))


def test_prompts_that_are_too_long_are_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    narrow = tiny_model(tmp_path / "narrow", context=87)
    result = evaluate_command([str(narrow)], made(narrow, rewards=NINES))
    assert result["prompts"] == 11
    assert "5 of 16 held-out prompts are longer than the 75 tokens" in caplog.text


class Fails:
    """An engine that has nothing to say in process 1."""

    def __init__(self, world: World) -> None:
        self._world = world

    def generate(self, prompts: Sequence[Prompt], *_: Any) -> list[Completion]:
        if self._world.rank == 1:
            raise ZeroDivisionError("no engine")
        said = Completion(token_ids=(1,), logprobs=(0.0,), text="a", finish_reason="stop", policy_version=0)
        return [said] * len(prompts)


def test_what_fails_in_one_process_fails_in_all(tiny: Path) -> None:
    def run(world: World) -> Any:
        tokenizer = AutoTokenizer.from_pretrained(tiny)
        evaluator = Evaluator(made(tiny), tokenizer, cast(Any, Marker(digits)), world=world)
        return evaluator.run(cast(Any, Fails(world)), "evaluate")

    other, own = in_threads(run)
    assert isinstance(own, ZeroDivisionError)
    assert str(other) == "process 1: ZeroDivisionError: no engine"


def test_a_training_without_held_out_prompts(warm: Warm, write: Write, tmp_path: Path) -> None:
    """A small data set of the user's may have none; of the prompts that another has, all are taken."""
    (tmp_path / "sums.jsonl").write_text(
        "".join(f'{{"prompt": "{i} + 1 =", "answer": "{i + 1}"}}\n' for i in range(40))
    )
    some = {"name": "some", "data": {"path": "sums.jsonl", "held_out": 0.5}}
    none = {"name": "none", "data": {"path": "sums.jsonl", "held_out": 0.0}}
    for tasks, expected in (([none], 0), ([some, none], 20)):
        write(tmp_path, steps=2, tasks=tasks, eval={"prompts": 300, "every": 1})
        ended = warm.run(tmp_path, "train", "r.yaml")
        assert ended.code == 0, ended.err
        assert ("no task has held-out prompts, so nothing is evaluated" in ended.err) == (expected == 0)
        run = tmp_path / "runs" / "r"
        found = summary(run)
        assert found["after"]["prompts"] == pytest.approx(expected, abs=8)
        assert list(found["after"]["by_task"]) == list(found["gain"]["by_task"]) == ["some"] * (len(tasks) - 1)
        assert (found["after"]["pass@1"] is None) == (expected == 0)
        assert ["eval/pass@1" in row for row in rows(run)] == [expected > 0, False]  # `after` follows the last update
        assert "NaN" not in (run / "summary.json").read_text()
        ended = warm.run(tmp_path, "eval", "runs/r", "--json")
        assert json.loads(ended.out) == {"model": "runs/r/model", **found["after"]}


def test_a_training_without_evaluation(warm: Warm, write: Write, tmp_path: Path) -> None:
    write(tmp_path, steps=2, eval={"prompts": 0, "every": 1})
    ended = warm.run(tmp_path, "train", "r.yaml")
    assert ended.code == 0, ended.err
    run = tmp_path / "runs" / "r"
    found = summary(run)
    assert found["before"] is found["after"] is found["gain"] is None
    assert found["rollouts"] == 32
    assert not [name for row in rows(run) for name in row if name.startswith("eval/")]
    assert "Held-out" not in ended.out
    assert "<html" in (run / "report.html").read_text()
