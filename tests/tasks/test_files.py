"""Demonstrations from a data set: every record once a pass, and what is wrong told with its line."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupwise.tasks.files import FileTask
from groupwise.tasks.mixture import Mixture
from groupwise.types import UserError


def written(path: Path, *records: object) -> Path:
    path.write_text("\n".join(json.dumps(record, ensure_ascii=False) for record in records), encoding="utf-8")
    return path


@pytest.fixture
def five(tmp_path: Path) -> FileTask:
    records = [{"prompt": f"p{i}", "completion": f"c{i}", "other": i} for i in range(5)]
    return FileTask("mine", written(tmp_path / "five.jsonl", *records))


def test_each_pass_gives_every_record_once_in_an_order_of_its_own(five: FileTask) -> None:
    drawn = [prompt.text for prompt in islice(five.stream(0, held_out=False), 50)]
    passes = [tuple(drawn[i : i + 5]) for i in range(0, 50, 5)]
    assert all(sorted(one) == ["p0", "p1", "p2", "p3", "p4"] for one in passes)
    assert len(set(passes)) > 5
    assert drawn != [prompt.text for prompt in islice(five.stream(1, held_out=False), 50)]


def test_the_completion_is_the_answer(five: FileTask) -> None:
    prompt = next(five.stream(0, held_out=False))
    assert prompt.answer == prompt.text.replace("p", "c")
    assert (prompt.task, prompt.domain) == ("mine", "mine")
    assert five.score(prompt, str(prompt.answer)) == 1.0
    assert five.score(prompt, "else") == 0.0
    assert len({p.id for p in islice(five.stream(0, held_out=False), 5)}) == 5


def test_a_prompt_may_have_several_completions(tmp_path: Path) -> None:
    records = [{"prompt": "p", "completion": f"c{i}"} for i in range(4)]
    stream = FileTask("mine", written(tmp_path / "a.jsonl", *records)).stream(0, held_out=False)
    assert sorted(str(prompt.answer) for prompt in islice(stream, 4)) == ["c0", "c1", "c2", "c3"]


@given(start=st.integers(0, 20))
def test_a_stream_continues_from_its_cursor(tmp_path_factory: pytest.TempPathFactory, start: int) -> None:
    path = tmp_path_factory.getbasetemp() / "seven.jsonl"
    if not path.exists():
        written(path, *({"prompt": str(i), "completion": ""} for i in range(7)))
    task = FileTask("mine", path)
    whole = list(islice(task.stream(3, held_out=False), 40))
    stream = task.stream(3, held_out=False, cursor=start)
    assert list(islice(stream, 40 - start)) == whole[start:]
    assert stream.cursor == 40
    mixture, other = Mixture([task], [1.0], 3), Mixture([task], [1.0], 3)
    mixture.draw(start)
    other.load_state(mixture.state())
    assert other.draw(9) == mixture.draw(9)


def test_texts_are_taken_as_they_are(tmp_path: Path) -> None:
    record = {"prompt": "é\u2028\n\x0c ", "completion": "\u0085 1 = 1\n"}
    path = written(tmp_path / "a.jsonl", record)
    path.write_bytes(b"\n" + path.read_bytes() + b"\r\n\r\n  \n")
    prompt = next(FileTask("mine", path).stream(0, held_out=False))
    assert (prompt.text, prompt.answer) == (record["prompt"], record["completion"])


def test_other_formats_and_conversations_do_as_well(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('prompt,completion\n"1,\n2","007"\n')
    (one,) = islice(FileTask("mine", tmp_path).stream(0, held_out=False), 1)
    assert (one.text, one.answer) == ("1,\n2", "007")
    path = written(tmp_path / "b.jsonl", {"prompt": [{"role": "user", "content": "hi"}], "completion": "ho"})
    (two,) = islice(FileTask("mine", path).stream(0, held_out=False), 1)
    assert (two.text, two.answer, len(two.messages)) == ("hi", "ho", 1)


GOOD = '{"prompt": "a", "completion": "b"}'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"{GOOD}\n\nnonsense\n{GOOD}", "line 3: is not JSON"),
        (f"{GOOD}\n{{", "line 2: is not JSON"),
        ('{"prompt": "a"}', "line 1: has no column `completion`"),
        (f'{GOOD}\n{{"completion": "a"}}', "line 2: has no column `prompt`"),
        (f"{GOOD}\n[1, 2]", "line 2: is of type list"),
        ('"prompt completion"', "line 1: is of type str"),
        ('{"prompt": 3, "completion": "b"}', "line 1: `prompt` is of type int, neither text nor a list"),
        ('{"prompt": "a", "completion": null}', "line 1: `completion` is null"),
        ("", "is empty"),
        ("\n \n", "is empty"),
        (b"\xff\xfe", "is not UTF-8 text"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_in_one_line(text: str | bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as caught:
        FileTask("mine", path)
    message = str(caught.value)
    assert message.startswith(f"data mine: {path}")
    assert says in message
    assert "\n" not in message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    written(tmp_path / "here.jsonl", {})
    with pytest.raises(UserError, match=r"data mine: .*/her.jsonl: no such file or folder; nearest names: here.jsonl"):
        FileTask("mine", tmp_path / "her.jsonl")
