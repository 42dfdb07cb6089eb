"""Tasks from data sets: prompts to train on, and held-out ones that never meet them.

A prompt is held out by a hash of what it says, or because the held-out split has it: records may be added, removed or
moved, and no other prompt changes sides. Records that repeat a prompt are left out and counted.
"""

from __future__ import annotations

import logging
from functools import cached_property
from itertools import islice
from typing import Any

from groupwise.config import DataConfig
from groupwise.tasks.columns import Questions, make_prompt
from groupwise.tasks.passes import Sides
from groupwise.tasks.records import Record, Records, Rows
from groupwise.tasks.rewards import answer_of, reference_of
from groupwise.tasks.sources import from_memory, open_records
from groupwise.tasks.streaming import Streamed, StreamedSides
from groupwise.types import Prompt, PromptStream, UserError

MOST_HELD_OUT = 10_000  # records of a streamed held-out split that are read

_log = logging.getLogger(__name__)


def data_task(name: str, data: Any, config: DataConfig | None = None) -> DataTask:
    """A task on what a program has in memory: a list of mappings, a pandas DataFrame, or a data set of `datasets`.

    `config` names its columns; its path is only what messages call the data. A mapping of splits, such as a
    DatasetDict, has `config.split` to train on. Data sets for TRL (columns prompt, answer, ...) go in as they are.
    """
    return DataTask(name, config or DataConfig(path="data"), data)


class DataTask:
    """Prompts of a data set. Nothing is read before a stream is asked for."""

    finite = True  # it has as many held-out prompts as there are

    def __init__(self, name: str, config: DataConfig, data: Any = None) -> None:
        self.name = self.domain = name
        self._config, self._data = config, data

    def stream(self, seed: int, *, held_out: bool, cursor: int = 0) -> PromptStream:
        """Endless passes over the training prompts, or one over the held-out ones, in the seed's order.

        Of streamed data the held-out prompts are the first, whatever the seed. Raises UserError for data that cannot be
        read.
        """
        try:
            sides = self.sides
        except UserError as error:
            raise UserError(f"task {self.name}: {error}") from None
        return sides.stream(seed, held_out, cursor)

    def score(self, prompt: Prompt, completion: str) -> float:
        """1 where the text inside the last <answer> tags, or else the whole completion, is the answer; 0 elsewhere.

        Case and surrounding white space do not matter. Raises UserError where the data have no answers.
        """
        reference = reference_of(prompt)
        if reference is None:
            raise UserError(
                f"task {self.name}: there is no answer in column `{self._config.answer or 'answer'}` to compare with; "
                "name its column in data.answer, or use a reward that needs none"
            )
        said = answer_of(completion)
        return float(_folded(completion if said is None else said) == _folded(reference))

    @cached_property
    def sides(self) -> Sides | StreamedSides:
        """What is trained on and what is held out; reads the data."""
        data, held_out = self._open(self._config.split), self._held_out_split()
        if isinstance(data, Streamed):
            return StreamedSides(data, self._from_stream, held_out, self._config.held_out)
        sides = Sides(Questions(data, self.name, self._config), held_out, self._config.held_out)
        if sides.repeated or sides.removed:
            _log.warning(
                "task %s: %d prompts to train on, %d held out; left out: %d records that repeat a prompt, %d whose "
                "prompt is in the held-out split",
                self.name, len(sides.training), len(sides.held_out), sides.repeated, sides.removed,
            )  # fmt: skip
        return sides

    def _open(self, split: str) -> Records | Streamed:
        if self._data is None:
            return open_records(self._config, split)
        return from_memory(self._data, self._config, split)

    def _held_out_split(self) -> Questions | None:
        if self._config.held_out_split is None:
            return None
        data = self._open(self._config.held_out_split)
        records = Rows(list(islice(data, MOST_HELD_OUT)), self._config.path) if isinstance(data, Streamed) else data
        return Questions(records, self.name, self._config)

    def _from_stream(self, record: Record) -> Prompt:
        try:
            return make_prompt(record, self.name, self._config)
        except ValueError as error:
            raise UserError(f"task {self.name}: {self._config.path}: a record {error}") from None


def _folded(text: str) -> str:
    return text.strip().casefold()
