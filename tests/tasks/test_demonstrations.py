"""What the demonstrations say is true: by the family's own scorer, and line by line."""

from __future__ import annotations

from functools import cache
from itertools import islice
from pathlib import Path
from random import Random
from statistics import mean

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from groupwise.config import SftRecipe
from groupwise.tasks.demonstrations import STYLES, WORKED, demonstrate, slip
from groupwise.tasks.gym import GymTask
from groupwise.tasks.steps import split_steps, verify_steps
from groupwise.types import Prompt

RECIPE = SftRecipe(**yaml.safe_load((Path(__file__).parents[2] / "recipes" / "seedling.yaml").read_text()))
PROMPTS = 200
# the share of a careful demonstration's steps that can be checked; of two spelled words, the second
CHECKABLE = {"syllogism": 0.0, "spell_backward": 0.5}

every_family = pytest.mark.parametrize("family", [source.name for source in RECIPE.data])


@cache
def drawn(family: str) -> tuple[GymTask, list[Prompt]]:
    (params,) = (source.params for source in RECIPE.data if source.name == family)
    task = GymTask(family, family, params)
    return task, list(islice(task.stream(7, held_out=False), PROMPTS))


def test_the_recipe_shows_every_family_that_has_worked_solutions() -> None:
    assert {source.family or source.name for source in RECIPE.data} == set(WORKED)
    assert all(set(source.styles) == set(STYLES) for source in RECIPE.data)


@every_family
@pytest.mark.parametrize("style", ["careful", "hasty", "shortcut"])
def test_demonstrations_are_right(family: str, style: str) -> None:
    task, prompts = drawn(family)
    for number, prompt in enumerate(prompts):
        completion = demonstrate(prompt, family, style, Random(number))
        assert task.score(prompt, completion) == 1.0, f"{prompt.text!r}: {completion!r}"


@every_family
def test_slips_are_wrong(family: str) -> None:
    task, prompts = drawn(family)
    for number, prompt in enumerate(prompts):
        completion = demonstrate(prompt, family, "slip", Random(number))
        assert task.score(prompt, completion) < 1.0, f"{prompt.text!r}: {completion!r}"
        assert split_steps(completion) == []


@every_family
def test_each_step_that_can_be_checked_holds(family: str) -> None:
    _, prompts = drawn(family)
    shares = []
    for prompt in prompts:
        completion = demonstrate(prompt, family, "careful", Random(0))
        verdicts = verify_steps(completion)
        assert False not in verdicts, f"{prompt.text!r}: {completion!r}"
        shares.append(mean(verdict is not None for verdict in verdicts) if verdicts else 0.0)
    assert mean(shares) == CHECKABLE.get(family, 1.0)


@every_family
def test_hasty_leaves_out_some_steps_and_a_shortcut_all(family: str) -> None:
    _, prompts = drawn(family)
    counts = {
        style: sum(len(split_steps(demonstrate(p, family, style, Random(n)))) for n, p in enumerate(prompts))
        for style in STYLES
    }
    assert counts["shortcut"] == counts["slip"] == 0
    assert 0.35 * counts["careful"] < counts["hasty"] < 0.65 * counts["careful"]


def test_the_same_draw_gives_the_same_words() -> None:
    _, prompts = drawn("chain_sum")
    for style in STYLES:
        assert demonstrate(prompts[0], "chain_sum", style, Random(3)) == demonstrate(
            prompts[0], "chain_sum", style, Random(3)
        )


def test_a_family_without_worked_solutions_is_an_error() -> None:
    _, prompts = drawn("chain_sum")
    with pytest.raises(KeyError):
        demonstrate(prompts[0], "rubiks_cube", "careful", Random(0))


@given(st.text(alphabet="0123456789-.ab i", min_size=1), st.integers(0, 99))
def test_a_slip_is_wrong_and_near(answer: str, seed: int) -> None:
    wrong = slip(answer, Random(seed))
    assert wrong != answer
    if len(wrong) == len(answer):
        assert sum(a != b for a, b in zip(wrong, answer, strict=True)) <= 2
    else:
        assert len(set(answer)) == 1  # nothing to exchange
        assert wrong == answer + answer[0]


def test_a_slip_of_a_digit_changes_one_digit_and_yes_becomes_no() -> None:
    assert {slip("1", Random(seed)) for seed in range(200)} == set("023456789")
    assert slip("-7 a", Random(0)).startswith("-")
    assert slip("Yes", Random(0)) == "No"
    assert slip("No", Random(0)) == "Yes"
