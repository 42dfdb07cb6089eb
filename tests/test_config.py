"""Recipes in and out: what loads, what is refused and how that is said, and that a dumped recipe is the same recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from groupwise.config import Recipe, SftRecipe
from groupwise.keys import describe, keys
from groupwise.recipes import dump_recipe, load_recipe
from groupwise.types import UserError

SHIPPED = sorted((Path(__file__).parent.parent / "recipes").glob("*.yaml"))


def load(folder: Path, text: str, *overrides: str, kind: type[BaseModel] = Recipe) -> Any:
    path = folder / "x.yaml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(kind, path, overrides)


def refusal(folder: Path, text: str, *overrides: str, kind: type[BaseModel] = Recipe) -> str:
    with pytest.raises(UserError) as caught:
        load(folder, text, *overrides, kind=kind)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message.replace(f"{folder}/", "")


def test_no_file_and_no_overrides_are_the_defaults() -> None:
    assert load_recipe(Recipe, None, []) == Recipe()
    assert load_recipe(SftRecipe, None, []) == SftRecipe()


def test_the_override_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    recipe = load(tmp_path, "steps: 5\nrollout: {group_size: 2, top_k: 7}", "--rollout.group_size", "4", "--seed=3")
    assert (recipe.steps, recipe.seed) == (5, 3)
    assert recipe.rollout == Recipe().rollout.model_copy(update={"group_size": 4, "top_k": 7})


def test_lists_are_written_as_in_the_file(tmp_path: Path) -> None:
    words = "--tasks", "[{name: gcd, params: {max_value: 1e2}}]", "--grouping.thresholds", "[.9, .7]"
    recipe = load(tmp_path, "grouping: {kind: clusters}", *words)
    assert (recipe.tasks[0].name, recipe.tasks[0].params) == ("gcd", {"max_value": 100.0})
    assert recipe.grouping.thresholds == [0.9, 0.7]


def test_lists_may_be_json_and_replace_the_file_s_list(tmp_path: Path) -> None:
    tasks = [{"name": "gcd", "params": {"max_value": 50, "ops": ["+", "-"]}}, {"name": "sums", "weight": 2}]
    recipe = load(tmp_path, "tasks: [{name: products}]", "--tasks", json.dumps(tasks), '--rollout.stop=["\\n", ","]')
    assert [task.name for task in recipe.tasks] == ["gcd", "sums"]
    assert recipe.tasks[0].params == {"max_value": 50, "ops": ["+", "-"]}
    assert recipe.rollout.stop == ["\n", ","]


@pytest.mark.parametrize(
    ("override", "section", "value"),
    [
        ("--loss.clip_low=null", "loss", {"clip_low": None}),
        ("--advantage.scale=none", "advantage", {"scale": "none"}),
        ("--update.learning_rate=1e-6", "update", {"learning_rate": 1e-6}),
        ("--update.betas=[0.8, 0.9]", "update", {"betas": (0.8, 0.9)}),
        ("--run.report=false", "run", {"report": False}),
        ("--run.dir=a b,c", "run", {"dir": "a b,c"}),
    ],
)
def test_values_of_overrides(tmp_path: Path, override: str, section: str, value: dict[str, Any]) -> None:
    default = getattr(Recipe(), section)
    assert getattr(load(tmp_path, "steps: 1", override), section) == default.model_copy(update=value)


def test_a_plain_exponent_in_the_file_is_a_number(tmp_path: Path) -> None:
    assert load(tmp_path, "tasks: [{name: a, params: {rate: 1e-6, text: '1e-6'}}]").tasks[0].params == {
        "rate": 1e-6,
        "text": "1e-6",
    }


def test_a_recipe_s_own_defaults_hold_when_other_keys_of_the_section_are_given(tmp_path: Path) -> None:
    recipe = load(tmp_path, "checkpoint: {keep: 1}", "--update.warmup", "3", kind=SftRecipe)
    assert recipe.update.learning_rate == SftRecipe().update.learning_rate
    assert recipe.checkpoint.every == SftRecipe().checkpoint.every


def test_the_environment_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPS", "7")
    monkeypatch.setenv("steps", "7")
    assert load(tmp_path, "seed: 1").steps == Recipe().steps


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rollout: {grupsize: 3}", "unknown key rollout.grupsize in x.yaml; did you mean rollout.group_size?"),
        ("rolout: {group_size: 3}", "unknown key rolout in x.yaml; did you mean rollout?"),
        ("group_size: 3", "unknown key group_size in x.yaml; did you mean rollout.group_size?"),
        ("rollout.top_k: 3", "unknown key rollout.top_k in x.yaml; write top_k under rollout, indented"),
        ("tasks: [{nam: a}]", "unknown key tasks[0].nam in x.yaml; did you mean tasks[0].name?"),
        ("run: {q: 1}", "unknown key run.q in x.yaml; allowed there: dir, rollouts, report"),
        ("5: 6", "[5] is not a key; keys are text"),
        ("update: {learning_rate: fast}", "update.learning_rate: 'fast' is not a number"),
        ("update: {learning_rate: -1}", "update.learning_rate: -1 is out of range; it must be greater than 0"),
        ("rewards: [{name: a, weight: .nan}]", "rewards[0].weight: nan is not a finite number"),
        ("rollout: {top_p: 2}", "rollout.top_p: 2 is out of range; it must be at most 1"),
        ("rollout: {top_k: -1}", "rollout.top_k: -1 is out of range; it must be at least 0"),
        ("steps: 1.5", "steps: 1.5 is not a whole number"),
        ("steps: yes", "steps: true is not a whole number"),
        ("update: {learning_rate: on}", "update.learning_rate: true is not a number"),
        ("rewards: [{name: a, deadline: true}]", "rewards[0].deadline: true is not a number"),
        ("tasks: [{name: a}, {name: b}, {name: a}]", "tasks: two are named 'a'; each needs a name of its own"),
        ("run: {report: maybe}", "run.report: 'maybe' is not true or false"),
        ("model: 5", "model: 5 is not text"),
        ("model:", "model: null is not text"),
        ("tasks: gcd", "tasks: 'gcd' is not a list"),
        ("tasks: [{weight: 2}]", "tasks[0].name is missing"),
        ("rollout: 5", "rollout: 5 is not a mapping of keys to values"),
        ("tasks: [{name: a, params: {1: 2}}]", "tasks[0].params[1]: 1 is not text"),
        ("loss: {kind: gsp}", "loss.kind: 'gsp' is not one of 'grpo', 'dapo', 'dr_grpo', 'gspo', 'cispo' or 'ppo'"),
        ("rollout: {group_size: 7}", "rollout.batch_size 128 is not a multiple of rollout.group_size 7"),
        ("update: {minibatches: 5}", "rollout.batch_size 128 is not a multiple of update.minibatches 5"),
        ("", "x.yaml is empty; a recipe is a mapping of keys to values, e.g. `steps: 100`"),
        ("# only a comment", "x.yaml is empty; a recipe is a mapping of keys to values, e.g. `steps: 100`"),
        ("- steps", "x.yaml holds no keys; a recipe is a mapping of keys to values, e.g. `steps: 100`"),
        ("steps: 5\nsteps: 6", "x.yaml, line 2: the key steps is given twice"),
        ("run:\n  dir: a\n  dir: b", "x.yaml, line 3: the key dir is given twice"),
        ("a: 2026-99-99", "x.yaml is not YAML: month must be in 1..12"),
        ("steps: \x07", "x.yaml is not YAML: unacceptable character #x0007: special characters are not allowed"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(tmp_path, text) == message


def test_broken_yaml_names_the_line(tmp_path: Path) -> None:
    assert refusal(tmp_path, "steps: 5\nrun: [").startswith("x.yaml, line 2: while parsing a flow node")
    assert refusal(tmp_path, "a: !!python/name:os.system x").startswith("x.yaml, line 1: could not determine")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rollout.grupsize", "4"], "unknown key --rollout.grupsize; did you mean --rollout.group_size?"),
        (["--rollout.grupsize=4"], "unknown key --rollout.grupsize; did you mean --rollout.group_size?"),
        (["--every", "4"], "unknown key --every; did you mean --eval.every or --checkpoint.every?"),
        (["--zzzz", "4"], "unknown key --zzzz; see --help"),
        (["--steps"], "--steps needs a value"),
        (["--steps", "--seed", "3"], "--steps needs a value"),
        (["stray"], "unexpected argument 'stray'"),
        (["--steps", "many"], "steps: 'many' is not a whole number"),
        (["--rollout.group_size", "0"], "rollout.group_size: 0 is out of range; it must be greater than 0"),
        (["--tasks", '["gcd"]'], "tasks[0]: 'gcd' is not a mapping of keys to values"),
        (
            ["--tasks", '{"name": "gcd"}'],
            '--tasks: {"name": "gcd"} is not a list; write e.g. --tasks \'[{name: gcd}]\'',
        ),
        (["--run", '{"dir": "x"}'], "unknown key --run; did you mean --run.dir or --run.rollouts or --run.report?"),
        (["--tasks", '[{"nam": "gcd"}]'], "unknown key tasks[0].nam; did you mean tasks[0].name?"),
        (["--tasks", "gcd"], "--tasks: gcd is not a list; write e.g. --tasks '[{name: gcd}]'"),
        (["--tasks", "[{name: gcd"], "--tasks: [{name: gcd is not a list; write e.g. --tasks '[{name: gcd}]'"),
        (["--lora.targets", "q"], "--lora.targets: q is not a list; write e.g. --lora.targets '[a, b]'"),
        (
            ["--grouping.thresholds", "0.8"],
            "--grouping.thresholds: 0.8 is not a list; write e.g. --grouping.thresholds '[0.7, 0.5]'",
        ),
        (["--rollout.stop", "['']"], "rollout.stop[0] is empty"),
        (["--grouping.thresholds", "[]"], "grouping.thresholds is empty; give at least 1"),
        (["--model", ""], "model is empty"),
    ],
)
def test_what_is_wrong_in_an_override_is_said_in_one_line(tmp_path: Path, words: list[str], message: str) -> None:
    assert refusal(tmp_path, "seed: 1", *words) == message


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            "advantage: {kind: global, scale: group}",
            "advantage.scale 'group' does not fit kind 'global'; allowed: none, batch",
        ),
        ("rollout: {max_tokens: 8, overlong_buffer: 9}", "rollout.overlong_buffer 9 is more than rollout.max_tokens 8"),
        (
            "advantage: {kind: rloo}\nrollout: {group_size: 1}",
            "rollout.group_size 1 does not fit advantage.kind 'rloo'",
        ),
        (
            "advantage: {kind: ebpo}\nrollout: {group_size: 1}",
            "rollout.group_size 1 does not fit advantage.kind 'ebpo'",
        ),
    ],
)
def test_values_that_do_not_go_together(tmp_path: Path, written: str, message: str) -> None:
    assert message in refusal(tmp_path, written)


def test_an_unknown_style_of_demonstrations_names_those_allowed(tmp_path: Path) -> None:
    message = refusal(tmp_path, "data: [{name: gcd, styles: {neat: 1}}]", kind=SftRecipe)
    assert message.startswith("data[0].styles.neat: 'neat' is not one of 'careful', 'hasty'")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").write_bytes(b"model: \xff\xfe")
    cases = {
        "dmo.yaml": f"no recipe file {tmp_path}/dmo.yaml; did you mean {tmp_path}/demo.yaml?",
        "far/away.yaml": f"no recipe file {tmp_path}/far/away.yaml",
        ".": f"cannot read the recipe {tmp_path}: is a directory",
        "demo.yaml": f"{tmp_path}/demo.yaml is not YAML: unacceptable character #x00ff: invalid start byte",
    }
    for name, message in cases.items():
        with pytest.raises(UserError) as caught:
            load_recipe(Recipe, tmp_path / name, [])
        assert str(caught.value) == message


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_recipe_loads_and_comes_back_from_its_dump(path: Path, tmp_path: Path) -> None:
    kind = SftRecipe if "\ndata:" in path.read_text(encoding="utf-8") else Recipe
    recipe = load_recipe(kind, path, [])
    assert load(tmp_path, dump_recipe(recipe), kind=kind) == recipe


texts = st.text(max_size=12) | st.sampled_from(["1e5", "no", "null", "~", "1:30", "2026-01-01", " x ", "a: b", "#", ""])
numbers = st.floats(allow_nan=False, allow_infinity=False)
rates = st.floats(0, 1, exclude_max=True)
trees = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
named = {"name": texts, "weight": st.floats(min_value=1e-9, max_value=1e9), "params": st.dictionaries(texts, trees)}
recipes = st.fixed_dictionaries(
    {},
    optional={
        "model": texts.filter(bool),
        "seed": st.integers(min_value=0),
        "tasks": st.lists(st.fixed_dictionaries(named), max_size=3, unique_by=lambda task: task["name"]),
        "rewards": st.lists(st.fixed_dictionaries({"name": texts, "weight": numbers}), max_size=3),
        "run": st.fixed_dictionaries({"dir": st.none() | texts, "report": st.booleans()}),
        "rollout": st.fixed_dictionaries({"stop": st.lists(texts.filter(bool)), "temperature": st.floats(1e-9, 1e9)}),
        "loss": st.fixed_dictionaries({"clip_low": st.none() | st.floats(0, 1e9), "kl": st.sampled_from(["k1", "k2"])}),
        "update": st.fixed_dictionaries({"betas": st.tuples(rates, rates)}),
    },
)


@given(content=recipes)
@settings(deadline=None)
def test_a_dumped_recipe_loads_back_equal(content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    recipe = Recipe.model_validate(content)
    assert load(tmp_path_factory.mktemp("recipe"), dump_recipe(recipe)) == recipe


@pytest.mark.parametrize("kind", [Recipe, SftRecipe])
def test_every_key_has_a_meaning_and_is_described(kind: type[BaseModel]) -> None:
    text = describe(kind, 100)
    assert max(map(len, text.splitlines())) <= 100
    for key, schema in keys(kind).items():
        assert schema.get("description"), f"{key} has no docstring"
        assert f"  {key.rpartition('.')[2] if '[]' in key else '--' + key} " in text


def test_a_description_tells_default_and_allowed_values() -> None:
    text = describe(Recipe, 200)
    assert "[grpo | dapo | dr_grpo | gspo | cispo | ppo; default: dapo]" in text
    assert "[> 0, <= 1; default: 1.0]" in text
    assert "[> 0; default: 0.0001]" in describe(SftRecipe, 200)  # the recipe's own default, not the section's
