"""Data sets as tasks: two sides that never meet, streams that continue exactly, and a scorer of their own."""

from __future__ import annotations

import json
import logging
import pickle
import resource
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupwise.config import DataConfig, TaskConfig
from groupwise.tasks.data import DataTask, data_task
from groupwise.tasks.load import load_task
from groupwise.tasks.mixture import Mixture, held_out_prompts
from groupwise.types import Prompt, UserError

# few letters, so that prompts repeat, also up to case and white space
questions = st.text(alphabet="aAb ", min_size=1, max_size=4).filter(str.strip)
records = st.lists(st.builds(dict, prompt=questions), min_size=1, max_size=60)


def task(data: Any, **keys: Any) -> DataTask:
    return data_task("t", data, DataConfig(path="data", **keys))


def numbered(count: int) -> list[dict[str, str]]:
    return [{"prompt": f"q{i}", "answer": str(i)} for i in range(count)]


def one_pass(of: DataTask, seed: int = 0, *, held_out: bool = False) -> list[str]:
    count = len(of.sides.held_out if held_out else of.sides.training)
    return [prompt.text for prompt in islice(of.stream(seed, held_out=held_out), count)]


def folded(texts: list[str]) -> set[str]:
    return {" ".join(text.casefold().split()) for text in texts}


@given(records, st.floats(0, 1), st.integers(0, 5), st.integers(0, 5))
def test_training_and_held_out_prompts_never_meet(
    data: list[dict[str, str]], share: float, training: int, evaluation: int
) -> None:
    of = task(data, held_out=share)
    shown, asked = one_pass(of, training), one_pass(of, evaluation, held_out=True)
    assert not folded(shown) & folded(asked)
    assert sorted(shown + asked) == sorted({record["prompt"] for record in data})
    assert of.sides.repeated == len(data) - len(shown) - len(asked)


@given(records, records)
def test_what_the_held_out_split_has_is_not_trained_on(data: list[dict[str, str]], other: list[dict[str, str]]) -> None:
    of = task({"train": data, "test": other}, held_out_split="test")
    shown, asked = one_pass(of), one_pass(of, held_out=True)
    assert sorted(asked) == sorted({record["prompt"] for record in other})
    assert set(shown) == {r["prompt"] for r in data if not folded([r["prompt"]]) & folded(asked)}
    assert len(shown) + len(asked) + of.sides.repeated + of.sides.removed == len(data) + len(other)


@given(records, records, st.randoms())
def test_no_prompt_changes_sides_when_others_come_and_go(
    data: list[dict[str, str]], more: list[dict[str, str]], rng: Any
) -> None:
    every = data + more
    rng.shuffle(every)
    before, after = task(data, held_out=0.5), task(every, held_out=0.5)
    assert set(one_pass(before)) <= set(one_pass(after))
    assert set(one_pass(before, held_out=True)) <= set(one_pass(after, held_out=True))


@given(st.integers(0, 200), st.integers(1, 60))
def test_a_stream_goes_on_from_its_cursor(before: int, after: int) -> None:
    of = task(numbered(50))
    stream = of.stream(3, held_out=False)
    list(islice(stream, before))
    assert stream.cursor == before
    assert list(islice(of.stream(3, held_out=False, cursor=before), after)) == list(islice(stream, after))


def test_each_pass_has_every_prompt_once_in_an_order_of_its_own() -> None:
    of = task(numbered(50), held_out=0.0)
    drawn = [prompt.text for prompt in islice(of.stream(0, held_out=False), 150)]
    passes = [tuple(drawn[i : i + 50]) for i in (0, 50, 100)]
    assert len(set(passes)) == 3
    assert all(len(set(one)) == 50 for one in passes)
    assert drawn != [prompt.text for prompt in islice(of.stream(1, held_out=False), 150)]


def test_held_out_prompts_are_the_seed_s_and_end() -> None:
    of = task(numbered(300))
    first = held_out_prompts([of], 10, 990)
    assert first == held_out_prompts([task(numbered(300))], 10, 990) != held_out_prompts([of], 10, 991)
    every = held_out_prompts([of], 1000, 990)
    assert every[:10] == first
    assert 10 < len(every) == len({prompt.id for prompt in every}) < 60
    assert held_out_prompts([task(numbered(3), held_out=0.0)], 10, 990) == []


def test_nothing_to_train_on() -> None:
    with pytest.raises(UserError, match="task t: has no prompts to train on"):
        Mixture([task(numbered(9), held_out=1.0)], [1.0], 0).draw(1)


def test_what_is_left_out_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    data = {"train": [{"prompt": p} for p in ("a", "a", "b", "C ")], "test": [{"prompt": "c"}]}
    of = task(data, held_out_split="test")
    with caplog.at_level(logging.WARNING):
        of.stream(0, held_out=False)
        of.stream(0, held_out=True)
    (line,) = caplog.messages
    assert line == (
        "task t: 2 prompts to train on, 1 held out; left out: 1 records that repeat a prompt, 1 whose prompt is in the "
        "held-out split"
    )


def test_a_score_is_an_exact_match_of_what_is_between_the_tags_or_of_everything() -> None:
    of = task([{"prompt": "p", "answer": " Paris"}], held_out=0.0)
    prompt = next(of.stream(0, held_out=False))
    for right in ("paris", " PARIS\n", "<think>Rome?</think><answer> Paris </answer>"):
        assert of.score(prompt, right) == 1.0
    for wrong in ("", "Paris.", "<answer>Rome</answer>", "Paris <answer></answer>"):
        assert of.score(prompt, wrong) == 0.0


def test_scoring_reads_no_data_and_names_the_column_of_the_answers() -> None:
    of = load_task(TaskConfig(name="t", data=DataConfig(path="nowhere.jsonl", answer="solution")))
    prompt = Prompt(id="", task="t", domain="t", text="p", answer="x")
    assert of.score(prompt, "x") == 1.0
    with pytest.raises(UserError, match="task t: there is no answer in column `solution` to compare with"):
        of.score(Prompt(id="", task="t", domain="t", text="p"), "x")
    with pytest.raises(UserError, match=r"task t: nowhere.jsonl: no such file or folder"):
        of.stream(0, held_out=False)


def test_a_data_set_for_trl_goes_in_as_it_is() -> None:
    turns = [{"role": "user", "content": "Name a colour."}]
    data = datasets.Dataset.from_list([{"prompt": turns, "solution": "red", "tests": ["a", "b"], "level": 2}])
    of = task(data, held_out=0.0)
    (prompt,) = islice(of.stream(0, held_out=False), 1)
    assert list(prompt.messages) == turns
    assert prompt.metadata == {"solution": "red", "tests": ["a", "b"], "level": 2}
    assert str(pickle.loads(pickle.dumps(prompt))) == str(prompt)


def test_files_and_memory_are_the_same_task(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, numbered(40))))
    read = load_task(TaskConfig(name="t", data=DataConfig(path=str(path))))
    for held_out in (False, True):
        streams = [of.stream(1, held_out=held_out) for of in (read, task(numbered(40)))]
        assert list(islice(streams[0], 60)) == list(islice(streams[1], 60))


def test_one_bad_record_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"question": f"q{i}"}) for i in range(1000)]
    lines[700] = json.dumps({"question2": "q"})
    path.write_text("\n".join(lines))
    of = load_task(TaskConfig(name="maths", data=DataConfig(path=str(path), prompt="question")))
    says = r"task maths: .*/a.jsonl line 701: has no column `question`; it has: question2; did you mean `question2`\?"
    with pytest.raises(UserError, match=says):
        of.stream(0, held_out=False)


MILLION = """
import json, sys
from groupwise.config import DataConfig
from groupwise.tasks.data import DataTask

path = sys.argv[1]
with open(path, "w") as file:
    for i in range(10**6):
        question = f"What is {i} times {7 * i}? " + "Think about it. " * 10
        file.write(json.dumps({"question": question, "answer": str(i)}) + "\\n")
task = DataTask("m", DataConfig(path=path, prompt="{question}"))
stream = task.stream(0, held_out=False)
print(len({next(stream).id for _ in range(1000)}), len(task.sides.training) + len(task.sides.held_out))
with open(path, "a") as file:
    file.write('{"query": 1}')
DataTask("m", DataConfig(path=path, prompt="{question}")).stream(0, held_out=False)
"""


@pytest.mark.slow
def test_a_million_records_and_the_one_that_is_wrong(tmp_path: Path) -> None:
    limit = 2**30  # with Python and all imports; as a list of mappings the records alone would be more
    run = subprocess.run(
        [sys.executable, "-c", MILLION, str(tmp_path / "m.jsonl")],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert run.stdout.split() == ["1000", "1000000"]
    assert "m.jsonl line 1000001: has no column `question`; it has: query" in run.stderr
