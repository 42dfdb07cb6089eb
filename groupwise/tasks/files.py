"""Demonstrations from a data set, offered as a task."""

from __future__ import annotations

from pathlib import Path

from groupwise.config import DataConfig
from groupwise.tasks.columns import Questions
from groupwise.tasks.passes import Passes
from groupwise.tasks.sources import open_records
from groupwise.tasks.streaming import Streamed
from groupwise.types import Prompt, UserError


class FileTask:
    """Records with `prompt` and `completion`; the completion is the prompt's answer. Nothing is held out.

    Every record is read once, and checked; a prompt may have several completions.
    """

    def __init__(self, name: str, path: Path | str) -> None:
        self.name = self.domain = name
        config = DataConfig(path=str(path), answer="completion")
        try:
            records = open_records(config, config.split)
            assert not isinstance(records, Streamed)
            self._questions = Questions(records, name, config)
            for place, prompt in enumerate(self._questions):
                if prompt.answer is None:
                    raise UserError(f"{self._questions.records.where(place)}: `completion` is null")
        except UserError as error:
            raise UserError(f"data {name}: {error}") from None

    def stream(self, seed: int, *, held_out: bool, cursor: int = 0) -> Passes:
        return Passes(self._questions, range(len(self._questions)), seed, cursor)

    def score(self, prompt: Prompt, completion: str) -> float:
        """1 for exactly the demonstrated completion."""
        return float(completion == prompt.answer)
