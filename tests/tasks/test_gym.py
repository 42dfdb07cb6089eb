"""Tasks from reasoning-gym: streams that can be continued, and held-out questions that training never shows."""

from __future__ import annotations

import json
import pickle
import resource
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groupwise.config import TaskConfig
from groupwise.tasks.gym import EVALUATED, GymTask, _is_code, families
from groupwise.tasks.hold_out import is_held_out, prompt_id
from groupwise.tasks.load import load_task
from groupwise.types import Prompt, UserError

SMALL = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}  # about two hundred questions
seeds = st.one_of(st.integers(0, 3), st.integers(0, 2**31), st.integers(0, 10**12))


def task(family: str = "chain_sum", **params: Any) -> GymTask:
    return GymTask("sums", family, params)


def prompts(of: GymTask, seed: int, count: int, *, held_out: bool = False, cursor: int = 0) -> list[Prompt]:
    return list(islice(of.stream(seed, held_out=held_out, cursor=cursor), count))


@settings(max_examples=15)
@given(seeds, seeds)
def test_training_never_shows_a_held_out_question(training: int, evaluation: int) -> None:
    """Of a family so small that the streams would share most of their questions."""
    small = task(**SMALL)
    shown = {prompt.text for prompt in prompts(small, training, 150)}
    asked = {prompt.text for prompt in prompts(small, evaluation, 8, held_out=True)}
    assert len(asked) == 8
    assert not shown & asked


def test_neighbouring_seeds_share_no_items() -> None:
    """reasoning-gym's own data sets of seeds 1 and 2 share all their items but one."""
    hard = task(min_digits=4, max_digits=5)
    every = [{prompt.text for prompt in prompts(hard, seed, 100)} for seed in range(1, 5)]
    assert sum(map(len, every)) == len(set.union(*every)) == 400


def test_the_id_is_the_question_s_whatever_the_task_is_called() -> None:
    (one,) = prompts(load_task(TaskConfig(name="a", family="gcd")), 3, 1)
    (other,) = prompts(load_task(TaskConfig(name="gcd")), 3, 1)
    assert (one.id, one.text) == (other.id, other.text)
    assert (one.task, other.task) == ("a", "gcd")
    assert prompt_id("gcd", one.text) != prompt_id("lcm", one.text)


@settings(max_examples=20)
@given(seeds, st.integers(0, 30), st.integers(1, 10))
def test_a_stream_goes_on_from_its_cursor(seed: int, before: int, after: int) -> None:
    sums = task()
    stream = sums.stream(seed, held_out=False)
    list(islice(stream, before))
    cursor = stream.cursor
    assert prompts(sums, seed, after, cursor=cursor) == list(islice(stream, after))


def test_held_out_prompts_are_the_same_for_the_same_seed_and_never_repeat() -> None:
    small = task(**SMALL)
    first = prompts(small, 990, 12, held_out=True)
    assert first == prompts(task(**SMALL), 990, 12, held_out=True)
    assert len({prompt.id for prompt in first}) == 12
    assert all(is_held_out(prompt.id) for prompt in first)
    assert first != prompts(small, 991, 12, held_out=True)


def test_a_held_out_stream_ends_with_the_family() -> None:
    every = prompts(task(**SMALL), 990, 10_000, held_out=True)
    assert 8 <= len(every) <= 40


def test_a_training_stream_does_not_end() -> None:
    assert len(prompts(task(**SMALL), 0, 2000)) == 2000


def test_a_prompt_has_all_that_scoring_and_grouping_need() -> None:
    (prompt,) = prompts(task(), 0, 1)
    assert (prompt.task, prompt.domain) == ("sums", "arithmetic")
    assert prompt.text == prompt.text.strip()
    assert prompt.metadata["difficulty"]
    assert str(pickle.loads(pickle.dumps(prompt))) == str(prompt)


def test_scores() -> None:
    sums = task()
    (prompt,) = prompts(sums, 0, 1)
    assert sums.score(prompt, f"<think>so</think><answer>{prompt.answer}</answer>") == 1
    assert sums.score(prompt, f"<answer>1{prompt.answer}</answer>") < 1
    for nothing in ("", str(prompt.answer), "<answer></answer>", f"<answer>{prompt.answer}"):
        assert sums.score(prompt, nothing) == 0


def test_an_unknown_family_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"task x: no reasoning-gym family 'chain_summ'; nearest names: chain_sum"):
        load_task(TaskConfig(name="x", family="chain_summ"))
    with pytest.raises(UserError, match=r"nearest names: \w+, \w+, \w+"):
        load_task(TaskConfig(name="zzzzzz"))
    assert "chain_sum" in families()


@pytest.mark.parametrize(
    ("params", "why"),
    [({"max_term": 3}, "max_term"), ({"min_terms": 5, "max_terms": 2}, "max_terms"), ({"min_terms": "two"}, "'str'")],
)
def test_impossible_parameters_are_one_line_with_the_reason(params: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError, match=r"task sums: reasoning-gym refuses params .*") as caught:
        task(**params)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lists_become_what_the_family_wants() -> None:
    """YAML has neither tuples nor enums."""
    assert prompts(task("complex_arithmetic", operations_weights=[0.5, 0.5, 0, 0]), 0, 1)
    assert prompts(task("syllogism", allow_all=True), 0, 1)


EVERY_FAMILY = """
import json, sys
from itertools import islice
from groupwise.config import TaskConfig
from groupwise.tasks.gym import families
from groupwise.tasks.load import load_task

PARAMS = {"composite": {"datasets": [{"name": "gcd", "weight": 1, "config": {}}]}}  # it is empty unless told otherwise
ODD = ("nonsense", "[1, 2", "{}", "1 2 3", "x = 1", "-1")
seen = {}
for family in families():
    task = load_task(TaskConfig(name=family, params=PARAMS.get(family, {})))
    training = list(islice(task.stream(7, held_out=False), 2))
    held_out = list(islice(task.stream(990, held_out=True), 1))
    scores = [task.score(prompt, f"<answer>{text}</answer>") for prompt in training for text in (prompt.answer, *ODD)]
    seen[family] = [len(training), len(held_out), min(scores), max(scores)]
print()
print(json.dumps(seen))
"""


def test_every_family_of_reasoning_gym_streams_and_scores_in_little_memory() -> None:
    """Their data sets may be whole lists, their seeds 32 bits wide, and their scorers raise at a malformed answer."""
    limit = 3 * 2**30
    run = subprocess.run(
        [sys.executable, "-c", EVERY_FAMILY],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    seen = json.loads(run.stdout.splitlines()[-1])  # some families print, not always whole lines
    assert len(seen) > 100
    odd = {name: found for name, found in seen.items() if found[:2] != [2, 1] or not 0 <= found[2] <= found[3] <= 1}
    assert not odd


def test_a_composite_family_takes_the_plain_lists_of_a_recipe() -> None:
    both = [{"name": "gcd", "weight": 1, "config": {}}, {"name": "lcm", "weight": 1, "config": {}}]
    (prompt,) = prompts(task("composite", datasets=both), 0, 1)
    assert task("composite", datasets=both).score(prompt, f"<answer>{prompt.answer}</answer>") == 1


@pytest.mark.parametrize("family", sorted(EVALUATED))
def test_what_a_scorer_would_evaluate_is_no_code(family: str, tmp_path: Path) -> None:
    """reasoning-gym gives some answers to eval, others to sympy, which evaluates too."""
    made, some = tmp_path / "made", prompts(task(family), 0, 20)
    assert not any(_is_code(prompt.answer) for prompt in some if prompt.answer)
    hidden = "+".join(f"chr({ord(letter)})" for letter in f"open({str(made)!r}, 'w')")
    for answer in (
        f"open({str(made)!r}, 'w')",
        f"__import__('os').system('touch {made}')",
        f"[open({str(made)!r}, 'w')]",
        f"sqrt('op' + 'en(' + {str(made)!r} + ', \"w\")')",
        f"eval({hidden})",
        "entry['answer'].split()",
    ):
        assert task(family).score(some[0], f"<answer>{answer}</answer>") == 0
    assert not made.exists()
    composite = task("composite", datasets=[{"name": family, "weight": 1, "config": {}}])
    assert composite.score(prompts(composite, 0, 1)[0], f"<answer>open({str(made)!r}, 'w')</answer>") == 0
    assert not made.exists()


@pytest.mark.parametrize(
    "answer", ["x**2*sin(x)/2 + C", "(3 + 4)*(5 - 2)", "[['A', 'B'], ['C', 'D']]", "-3.5*x + log(x)"]
)
def test_arithmetic_and_lists_are_no_code(answer: str) -> None:
    assert not _is_code(answer)
