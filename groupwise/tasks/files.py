"""Demonstrations from a JSONL file, offered as a task."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from groupwise.tasks.gym import prompt_id
from groupwise.types import Prompt, UserError


class FileTask:
    """Records with `prompt` and `completion`; the completion is the prompt's answer. Nothing is held out."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = self.domain = name
        self._prompts = [
            Prompt(id=prompt_id(name, text), task=name, domain=name, text=text, answer=completion)
            for text, completion in _read(path, f"data {name}: {path}")
        ]

    def stream(self, seed: int, *, held_out: bool, cursor: int = 0) -> FileStream:
        return FileStream(self._prompts, seed, cursor)

    def score(self, prompt: Prompt, completion: str) -> float:
        """1 for exactly the demonstrated completion."""
        return float(completion == prompt.answer)


class FileStream:
    """Endless passes over the records, each pass in a new order; `cursor` counts the records given."""

    def __init__(self, prompts: list[Prompt], seed: int, cursor: int) -> None:
        self.cursor, self._prompts, self._seed = cursor, prompts, seed
        self._order = self._shuffled()

    def __iter__(self) -> FileStream:
        return self

    def __next__(self) -> Prompt:
        place = self.cursor % len(self._prompts)
        if place == 0:
            self._order = self._shuffled()
        self.cursor += 1
        return self._prompts[self._order[place]]

    def _shuffled(self) -> list[int]:
        """The order of the cursor's pass."""
        order = list(range(len(self._prompts)))
        Random(f"{self._seed}/{self.cursor // len(order)}").shuffle(order)
        return order


def _read(path: Path, where: str) -> list[tuple[str, str]]:
    """Prompt and completion of each line that is not blank. Raises UserError for anything else."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # splitlines() would also split inside of texts
    except OSError as error:
        raise UserError(f"{where}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{where}: is not UTF-8 text") from None
    records = [_record(line, f"{where} line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not records:
        raise UserError(f"{where}: is empty")
    return records


def _record(line: str, where: str) -> tuple[str, str]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: is not JSON: {error}") from None
    for key in ("prompt", "completion"):
        if not isinstance(record, dict) or key not in record:
            raise UserError(f'{where}: has no `{key}`; each line is {{"prompt": TEXT, "completion": TEXT}}')
        if not isinstance(record[key], str):
            raise UserError(f"{where}: `{key}` is not text")
    return record["prompt"], record["completion"]
