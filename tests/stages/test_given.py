"""What a user may hand to the library, and what becomes of it."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_model

from groupwise import Recipe, Run, Trainer
from groupwise.cli import main
from groupwise.rollout.local import LocalEngine
from groupwise.run.folder import RECIPE
from groupwise.stages.given import as_recipe, with_data, with_rewards
from groupwise.types import UserError

QUESTIONS = [{"prompt": f"{a} plus {b}?", "answer": str(a + b), "kind": "sum"} for a in range(6) for b in range(6)]
SMALL: dict[str, Any] = {
    "steps": 2,
    "threads": 1,
    "rollout": {"group_size": 2, "batch_size": 8, "max_tokens": 8},
    "eval": {"prompts": 4},
}


def letters(prompt: Any, completion: str) -> float:
    return float(len(set(completion)))


def test_a_recipe_comes_in_any_form(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("steps: 3\n")
    assert as_recipe(tmp_path / "mine.yaml").steps == as_recipe({"steps": 3}).steps == as_recipe(Recipe(steps=3)).steps
    assert as_recipe(str(tmp_path / "mine.yaml")).run.dir == "runs/mine"
    assert as_recipe(None) == Recipe()
    with pytest.raises(UserError, match=r"unknown key stesp; did you mean steps\?"):
        as_recipe({"stesp": 5})
    with pytest.raises(UserError, match=r"rollout\.group_size: 0 is out of range; it must be greater than 0"):
        as_recipe({"rollout": {"group_size": 0}})


def test_functions_replace_the_default_reward_and_stand_beside_named_ones() -> None:
    alone, functions = with_rewards(Recipe(), letters)
    assert [reward.name for reward in alone.rewards] == ["letters"]
    assert functions == {"letters": letters}
    named = Recipe.model_validate({"rewards": [{"name": "accuracy"}, {"name": "letters", "weight": 0.5}]})
    beside, _ = with_rewards(named, [letters])
    assert [(reward.name, reward.weight) for reward in beside.rewards] == [("accuracy", 1.0), ("letters", 0.5)]
    assert [reward.function for reward in beside.rewards] == ["task", "python:letters"]  # in recipe.yaml, too
    renamed, _ = with_rewards(Recipe(), {"a": letters, "b": letters})
    assert [reward.name for reward in renamed.rewards] == ["a", "b"]
    assert with_rewards(Recipe(), None) == (Recipe(), {})


def test_two_functions_of_one_name_are_refused() -> None:
    with pytest.raises(UserError, match="two functions are named 'letters'"):
        with_rewards(Recipe(), [letters, letters])


def test_data_take_the_place_of_tasks() -> None:
    task = with_data(Recipe()).tasks[0]
    assert task.data is not None and task.data.prompt == "prompt"
    mapped = Recipe.model_validate({"tasks": [{"name": "q", "data": {"path": "x", "prompt": "{question}?"}}]})
    task = with_data(mapped).tasks[0]
    assert (task.name, task.data.prompt) == ("q", "{question}?")  # type: ignore[union-attr]
    with pytest.raises(UserError, match="leave tasks empty or name one with `data`; given: gcd"):
        with_data(Recipe.model_validate({"tasks": [{"name": "gcd"}]}))


def test_data_without_answers_are_told_before_a_model_is_loaded(tmp_path: Path) -> None:
    recipe = {**SMALL, "model": "nowhere/at-all", "run": {"dir": str(tmp_path / "run")}}
    with pytest.raises(UserError, match="compares with answers, but the data have no column 'answer'"):
        Trainer(recipe, data=[{"prompt": "hello"}])


def test_a_tracker_that_is_missing_is_told_before_a_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    recipe = {**SMALL, "model": "nowhere/at-all", "run": {"dir": str(tmp_path / "run")}, "log": {"wandb": "mine"}}
    with pytest.raises(UserError, match="wandb is missing"):
        Trainer(recipe, QUESTIONS, letters)
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_generates_as_many_at_once_however_much_memory_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = {**SMALL, "model": str(tiny_model(tmp_path / "tiny")), "run": {"dir": str(tmp_path / "run")}}
    for free, resume in ((500, False), (7, True)):
        monkeypatch.setattr("groupwise.stages.engines.cached_tokens", lambda *_, free=free, **__: free)
        with Trainer(recipe, QUESTIONS, lambda prompt, completion: 0.5, resume=resume) as trainer:
            assert isinstance(trainer.engine, LocalEngine)
            assert trainer.engine.max_batch_tokens == 500
            trainer.checkpoint()


def test_a_run_of_the_library(tmp_path: Path) -> None:
    """Data, a closure as reward, callbacks, stopping early, the run that is returned, and resuming it."""
    seen: list[int] = []

    def watch(trainer: Trainer, row: dict[str, float]) -> None:
        seen.append(trainer.steps_done)
        if trainer.steps_done == 2:
            trainer.stop()

    recipe = {**SMALL, "steps": 5, "model": str(tiny_model(tmp_path / "tiny")), "run": {"dir": str(tmp_path / "run")}}
    with Trainer(recipe, QUESTIONS, lambda prompt, completion: len(completion) / 8, [watch]) as trainer:
        run = trainer.train()
        with (run.path / RECIPE).open("a") as file, pytest.raises(BlockingIOError):  # no other process may come in
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert seen == [1, 2]
    assert isinstance(run, Run)
    assert "reward/<lambda>/mean" in run.metrics
    assert (run.path / "model" / "config.json").exists()
    assert "2 of 5 updates" in repr(run)
    assert run.summary["steps"] == 2
    assert "<svg" in run._repr_html_()
    with Trainer(recipe, QUESTIONS, {"<lambda>": lambda prompt, completion: 0.5}, resume=True) as trainer:
        assert (trainer.steps_done, trainer.stopped) == (2, True)
        row = trainer.step()
    assert {"loss", "groups/count", "groups/size_mean"} <= set(row)
    assert row["reward/mean"] == 0.5


@pytest.mark.parametrize("given", ["data", "rewards", "nothing"])
def test_what_goes_on_with_an_interrupted_run_depends_on_what_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    run = tmp_path / "run"
    recipe = {**SMALL, "model": str(tiny_model(tmp_path / "tiny")), "run": {"dir": str(run)}, "eval": {"prompts": 0}}
    recipe |= {} if given == "data" else {"tasks": [{"name": "chain_sum"}]}
    data, rewards = QUESTIONS if given == "data" else None, letters if given == "rewards" else None
    with Trainer(recipe, data, rewards, [lambda *_: os.kill(os.getpid(), signal.SIGINT)]) as trainer:
        row = dict.fromkeys(("reward/mean", "accuracy", "tokens/per_second"), 0.0)
        monkeypatch.setattr(trainer, "step", lambda: row)
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
    said = capsys.readouterr()
    command = f"groupwise train --resume {run}"
    assert (command in said.out) == (given == "nothing")
    assert ("Trainer(..., resume=True) continues" in said.out) == (given != "nothing")
    if given != "nothing":
        assert main(command.split()[1:]) == 2
        assert capsys.readouterr().err == (
            f"groupwise: {run}: its data or rewards were given from Python; Trainer(..., resume=True) goes on with it\n"
        )


def test_own_steps_and_then_the_rest(tmp_path: Path) -> None:
    """What has learned already is no model from before."""
    recipe = {**SMALL, "model": str(tiny_model(tmp_path / "tiny")), "run": {"dir": str(tmp_path / "run")}}
    with Trainer(recipe, QUESTIONS, letters) as trainer:
        trainer.step()
        run = trainer.train()
    assert trainer.steps_done == run.summary["steps"] == 2
    assert (run.summary["before"], run.summary["gain"]) == (None, None)
    assert run.summary["after"]["prompts"] == 4
