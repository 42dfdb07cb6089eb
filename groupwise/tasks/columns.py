"""From the records of a data set to prompts."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from groupwise.config import DataConfig
from groupwise.config.template import is_template, parse_template
from groupwise.tasks.hold_out import likeness, prompt_id
from groupwise.tasks.records import Records
from groupwise.types import Prompt, UserError

Messages = tuple[Mapping[str, str], ...]
_SCALARS = (str, int, float, bool, type(None))


class Questions:
    """The prompts of records, by the place of the record. What is wrong with one is a UserError that says where."""

    def __init__(self, records: Records, task: str, config: DataConfig) -> None:
        self.records, self._task, self._config = records, task, config

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Prompt]:
        for place, record in enumerate(self.records):
            yield self._made(record, place)

    def __getitem__(self, place: int) -> Prompt:
        return self._made(self.records[place], place)

    def _made(self, record: Any, place: int) -> Prompt:
        try:
            return make_prompt(record, self._task, self._config)
        except ValueError as error:
            raise UserError(f"{self.records.where(place)}: {error}") from None


def make_prompt(record: Any, task: str, config: DataConfig) -> Prompt:
    """The prompt that `config`'s columns make of a record. Raises ValueError, in words, where they cannot."""
    if not isinstance(record, Mapping):
        raise ValueError(f"is {_kind(record)}, not a mapping of columns to values")
    text, messages = _said(record, config.prompt)
    identity = prompt_id(
        task, _utf8(text if _one_turn(messages) else json.dumps(messages, ensure_ascii=False), "prompt")
    )
    if config.system is not None and not any(message["role"] == "system" for message in messages):
        turns = messages or ({"role": "user", "content": text},)
        messages = ({"role": "system", "content": config.system}, *turns)
    return Prompt(
        id=identity,
        task=task,
        domain=task
        if config.domain is None
        else _utf8(_as_text(_column(record, config.domain), config.domain), "domain"),
        text=text,
        messages=messages,
        chat=config.chat,
        answer=None if (answer := _answer(record, config)) is None else _utf8(answer, "answer"),
        metadata={str(key): _plain(value) for key, value in record.items() if key != config.prompt},
    )


def likeness_of(prompt: Prompt) -> str:
    """What prompts on both sides of the hold-out must not share: all that is said, but for system messages."""
    if not prompt.messages:
        return likeness(prompt.text)
    turns = [message for message in prompt.messages if message["role"] != "system"]
    return likeness(
        turns[0]["content"] if _one_turn(turns) else "\n".join(f"{m['role']}: {m['content']}" for m in turns)
    )


def _said(record: Mapping[str, Any], prompt: str) -> tuple[str, Messages]:
    """What the user says, and the conversation around it where there is one."""
    if is_template(prompt):
        parts = parse_template(prompt)
        text = "".join(before + (_as_text(_column(record, name), name) if name else "") for before, name in parts)
        return text, ()
    value = _column(record, prompt)
    if isinstance(value, str):
        if not value.strip():
            raise ValueError(f"`{prompt}` is empty")
        return value, ()
    if not isinstance(value, Sequence) or not value:
        raise ValueError(f"`{prompt}` is {_kind(value)}, neither text nor a list of chat messages")
    messages = tuple(_message(message, prompt) for message in value)
    asked = [message["content"] for message in messages if message["role"] == "user"]
    if not asked:
        raise ValueError(f"`{prompt}` has no message of the user")
    # a user's turn alone is kept as messages too: it was given as a conversation, and rewards are to see one
    return asked[-1], messages


def _message(message: Any, column: str) -> Mapping[str, str]:
    for key in ("role", "content"):
        if not isinstance(message, Mapping) or not isinstance(message.get(key), str):
            raise ValueError(f"`{column}` has a message without `{key}` as text; each is {{role: TEXT, content: TEXT}}")
    return {str(key): _plain(value) for key, value in message.items() if value is not None}


def _one_turn(messages: Sequence[Mapping[str, str]]) -> bool:
    """Whether nothing was said but one message of the user."""
    return not messages or [message["role"] for message in messages] == ["user"]


def _answer(record: Mapping[str, Any], config: DataConfig) -> str | None:
    name = config.answer or "answer"
    value = _column(record, name) if config.answer or config.answer_pattern else record.get(name)
    if value is None:
        return None
    text = _as_text(value, name)
    if config.answer_pattern is None:
        return text
    matches = list(re.finditer(config.answer_pattern, text))
    if not matches or matches[-1][1] is None:
        raise ValueError(f"`{name}` has nothing that answer_pattern {config.answer_pattern!r} finds: {text[-60:]!r}")
    return str(matches[-1][1]).strip()


def _column(record: Mapping[str, Any], name: str) -> Any:
    if name in record:
        return record[name]
    columns = [str(column) for column in record]
    near = difflib.get_close_matches(name, columns, n=1)
    hint = f"; did you mean `{near[0]}`?" if near else ""
    raise ValueError(f"has no column `{name}`; it has: {', '.join(columns[:20])}{hint}")


def _as_text(value: Any, column: str) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        raise ValueError(f"`{column}` is null")
    plain = _plain(value)
    if isinstance(plain, float) and plain.is_integer() and abs(plain) < 2**53:
        plain = int(plain)  # a table's column of whole numbers holds floats once one of them is missing
    return json.dumps(plain, ensure_ascii=False)


def _utf8(text: str, what: str) -> str:
    """The text, which can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"its {what} is not text that can be written as UTF-8") from None
    return text


def _kind(value: Any) -> str:
    return "null" if value is None else f"of type {type(value).__name__}"


def _plain(value: Any) -> Any:
    """The value as JSON could hold it: arrays become lists, dates and the like text."""
    if type(value) in _SCALARS:
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if hasattr(value, "tolist"):  # NumPy's arrays and numbers
        return _plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    return str(value)
