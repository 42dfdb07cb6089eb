"""Recipes that name data: what is refused before anything is read, in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from groupwise.config import Recipe
from groupwise.recipes import dump_recipe, load_recipe
from groupwise.types import UserError


def load(folder: Path, task: str) -> Recipe:
    path = folder / "x.yaml"
    path.write_text(f"tasks: [{task}]", encoding="utf-8")
    return load_recipe(Recipe, path, [])


def test_a_data_set_in_a_recipe(tmp_path: Path) -> None:
    keys = 'path: openai/gsm8k, subset: main, prompt: "Solve: {question} {{x}}", answer_pattern: "#### (.+)"'
    recipe = load(tmp_path, f"{{name: maths, weight: 2, data: {{{keys}, held_out_split: test}}}}")
    data = recipe.tasks[0].data
    assert data is not None and (data.split, data.held_out_split, data.prompt) == (
        "train", "test", "Solve: {question} {{x}}",
    )  # fmt: skip
    (tmp_path / "again.yaml").write_text(dump_recipe(recipe))
    assert load_recipe(Recipe, tmp_path / "again.yaml", []) == recipe


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ("{name: a, data: {}}", "tasks[0].data.path is missing"),
        ("{name: a, data: {path: x, promt: y}}", "did you mean tasks[0].data.prompt?"),
        ("{name: a, data: {path: x, held_out: 2}}", "tasks[0].data.held_out: 2 is out of range"),
        (
            "{name: a, data: {path: x, prompt: 'a {b'}}",
            "data.prompt: 'a {b' is no template: expected '}' before end of",
        ),
        ("{name: a, data: {path: x, prompt: '{}'}}", "data.prompt: '{}' is no template: braces hold the name of a"),
        ("{name: a, data: {path: x, prompt: '{a:3}'}}", "braces hold the name of a column, as in {question}"),
        ("{name: a, data: {path: x, prompt: '{{a}}'}}", "data.prompt: '{{a}}' is no template: it names no column"),
        ("{name: a, data: {path: x, answer_pattern: '####'}}", "data.answer_pattern: '####' finds no answer: it needs"),
        ("{name: a, data: {path: x, answer_pattern: '(a'}}", "data.answer_pattern: '(a' finds no answer: missing )"),
        ("{name: a, data: {path: x, system: s, chat: false}}", "data.system: there is no place for a system message"),
        ("{name: a, family: gcd, data: {path: x}}", "task a: family belongs to a reasoning-gym family and data to a"),
        ("{name: a, params: {x: 1}, data: {path: x}}", "task a: params belongs to a reasoning-gym family and data to"),
    ],
)
def test_what_is_refused(tmp_path: Path, task: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, task)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
