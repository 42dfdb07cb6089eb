"""From records to prompts: columns, templates, conversations, answers, and words for what is missing."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupwise.config import DataConfig
from groupwise.tasks.columns import Questions, likeness_of, make_prompt
from groupwise.tasks.hold_out import prompt_id
from groupwise.tasks.records import Rows
from groupwise.types import Prompt, UserError

USER = {"role": "user", "content": "1+1?"}
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)


def made(record: Mapping[str, Any], **keys: Any) -> Prompt:
    return make_prompt(record, "t", DataConfig(path="x", **keys))


@given(words, st.dictionaries(words, json_values, max_size=4))
def test_a_column_is_the_prompt_and_every_other_one_its_metadata(text: str, others: dict[str, Any]) -> None:
    others.pop("prompt", None)
    prompt = made({"prompt": text, **others})
    assert (prompt.text, prompt.messages, prompt.task, prompt.domain, prompt.chat) == (text, (), "t", "t", True)
    assert prompt.metadata == others
    assert prompt.id == prompt_id("t", text)


@given(words, words)
def test_a_template_is_filled_and_its_columns_stay(a: str, b: str) -> None:
    prompt = made({"a": a, "b c": b, "n": 3}, prompt="{{{a}}} {b c}: {n}", chat=False)
    assert prompt.text == f"{{{a}}} {b}: 3"
    assert prompt.metadata == {"a": a, "b c": b, "n": 3}
    assert not prompt.chat


def test_conversations() -> None:
    turns = [{"role": "system", "content": "Be brief.", "name": None}, USER, {"role": "assistant", "content": "It is"}]
    prompt = made({"prompt": turns})
    assert prompt.text == "1+1?"
    assert prompt.messages == ({"role": "system", "content": "Be brief."}, USER, turns[2])
    assert made({"prompt": np.array(turns[1:2], dtype=object).tolist()}).messages == (USER,)


def test_a_system_message_comes_first_unless_the_conversation_has_one() -> None:
    system = {"role": "system", "content": "Think."}
    assert made({"prompt": "1+1?"}, system="Think.").messages == (system, USER)
    assert made({"prompt": [USER]}, system="Think.").messages == (system, USER)
    own = {"role": "system", "content": "Be brief."}
    assert made({"prompt": [own, USER]}, system="Think.").messages == (own, USER)


def test_the_same_question_is_the_same_prompt_however_it_is_put() -> None:
    forms = [made({"prompt": "1+1?"}), made({"prompt": [USER]}), made({"prompt": "1+1?"}, system="Think.")]
    assert len({prompt.id for prompt in forms}) == 1
    assert len({likeness_of(prompt) for prompt in [*forms, made({"prompt": " 1+1?\n"})]}) == 1
    longer = made({"prompt": [USER, {"role": "assistant", "content": "2"}, USER]})
    assert longer.id != forms[0].id
    assert likeness_of(longer) != likeness_of(forms[0])


@pytest.mark.parametrize(
    ("record", "keys", "answer"),
    [
        ({"answer": "4"}, {}, "4"),
        ({}, {}, None),
        ({"answer": None}, {}, None),
        ({"answer": 4, "right": 5}, {"answer": "right"}, "5"),
        ({"answer": 2.5}, {}, "2.5"),
        ({"answer": np.float64(4)}, {}, "4"),  # a column of whole numbers of which one is missing
        ({"answer": 1e300}, {}, "1e+300"),
        ({"answer": True}, {}, "true"),
        ({"answer": ["a", "é"]}, {}, '["a", "é"]'),
        ({"answer": "2 #### 3\n#### 1,000 \n"}, {"answer_pattern": "#### (.+)"}, "1,000"),
        ({"right": "x (b) y (c)"}, {"answer": "right", "answer_pattern": r"\((\w)\)"}, "c"),
    ],
)
def test_answers(record: dict[str, Any], keys: dict[str, Any], answer: str | None) -> None:
    prompt = made({"prompt": "p", **record}, **keys)
    assert prompt.answer == answer
    assert prompt.metadata == record


def test_what_else_a_message_holds_becomes_plain() -> None:
    said = {"role": "user", "content": "1+1?", "timestamp": dt.date(2026, 1, 2), "name": None}
    (message,) = made({"prompt": [said]}).messages
    assert message == {"role": "user", "content": "1+1?", "timestamp": "2026-01-02"}


def test_domains() -> None:
    assert made({"prompt": "p", "subject": "algebra"}, domain="subject").domain == "algebra"
    assert made({"prompt": "p", "level": 3}, domain="level").domain == "3"


def test_metadata_are_what_json_could_hold() -> None:
    odd = {"a": np.arange(2), "b": np.float64(0.5), "c": dt.date(2026, 1, 2), "d": (1, {"x": b"\xffy"})}
    metadata = made({"prompt": "p", **odd, 5: "five"}).metadata
    assert metadata == {"a": [0, 1], "b": 0.5, "c": "2026-01-02", "d": [1, {"x": "\ufffdy"}], "5": "five"}
    assert json.loads(json.dumps(metadata)) == metadata


@pytest.mark.parametrize(
    ("record", "keys", "says"),
    [
        ({"question": "q", "x": 1}, {}, "has no column `prompt`; it has: question, x"),
        ({"question": "q"}, {"prompt": "questin"}, "; did you mean `question`?"),
        ({"question": "q"}, {"prompt": "Solve: {questin}"}, "has no column `questin`; it has: question; did you mean"),
        ({"question": None}, {"prompt": "Solve: {question}"}, "`question` is null"),
        ({"prompt": None}, {}, "`prompt` is null, neither text nor"),
        ({"prompt": 3}, {}, "`prompt` is of type int, neither text nor a list of chat messages"),
        ({"prompt": " \n"}, {}, "`prompt` is empty"),
        ({"prompt": []}, {}, "neither text nor a list of chat messages"),
        ({"prompt": ["hi"]}, {}, "`prompt` has a message without `role` as text"),
        ({"prompt": [{"role": "user", "content": None}]}, {}, "`prompt` has a message without `content` as text"),
        ({"prompt": [{"role": "system", "content": "x"}]}, {}, "`prompt` has no message of the user"),
        ({"prompt": "\ud800"}, {}, "its prompt is not text that can be written as UTF-8"),
        ({"prompt": "p", "answer": "\ud83d"}, {}, "its answer is not text that can be written as UTF-8"),
        ({"prompt": "p", "of": "\ud83d"}, {"domain": "of"}, "its domain is not text that can be written as UTF-8"),
        ({"prompt": "p"}, {"answer": "solution"}, "has no column `solution`"),
        ({"prompt": "p"}, {"answer_pattern": "(x)"}, "has no column `answer`"),
        (
            {"prompt": "p", "answer": "y"},
            {"answer_pattern": "(x)"},
            "`answer` has nothing that answer_pattern '(x)' finds",
        ),
        ({"prompt": "p"}, {"domain": "subject"}, "has no column `subject`"),
        ({"prompt": "p", "subject": None}, {"domain": "subject"}, "`subject` is null"),
        ([1], {}, "is of type list, not a mapping"),
    ],
)
def test_what_a_record_lacks_is_told_with_its_place(record: Any, keys: dict[str, Any], says: str) -> None:
    questions = Questions(Rows([record], "x"), "t", DataConfig(path="x", **keys))
    for read in (lambda: list(questions), lambda: questions[0]):
        with pytest.raises(UserError) as caught:
            read()
        assert str(caught.value).startswith("x record 1: ")
        assert says in str(caught.value)
