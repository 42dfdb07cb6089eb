"""What is trained on, and how it is scored."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from groupwise.config.section import NonNegative, Section, Share
from groupwise.config.template import is_template, parse_template


class DataConfig(Section):
    """A data set of prompts. All columns but the prompt's own stay with the prompt as its metadata."""

    path: str
    """A JSONL, JSON, CSV or Parquet file, a folder or pattern of them, or a data set on the Hugging Face hub."""
    subset: str | None = None
    """Which of the hub data set's configurations, e.g. main; of a folder, the files with this word in their path."""
    split: str = "train"
    """The split that is trained on; of a folder, the files with this word in their path, or all where none has it."""
    held_out_split: str | None = None
    """The split that is evaluated on, found like `split`; default: a share of `split`."""
    held_out: Share = 0.1
    """Share of the prompts that is kept for evaluation, chosen by a hash of the prompt, never by its place."""
    streaming: bool = False
    """Hub: read records as they are needed instead of downloading all first."""
    prompt: str = "prompt"
    """Column with the prompt, as text or chat messages, or a template such as `Solve: {question}`."""
    system: str | None = None
    """System message before each prompt that brings none of its own."""
    chat: bool = True
    """Put the model's chat template around prompts that are text; false: the text is fed as it is."""
    answer: str | None = None
    """Column with the reference answer; default: `answer`, where there is one."""
    answer_pattern: str | None = None
    """Regular expression whose first group, at its last match in that column, is the answer, e.g. `#### (.+)`."""
    domain: str | None = None
    """Column with the prompt's domain; default: the task's name for all."""

    @field_validator("prompt")
    @classmethod
    def _template_is_sound(cls, prompt: str) -> str:
        try:
            if is_template(prompt):
                parse_template(prompt)
        except ValueError as error:
            raise ValueError(f"data.prompt: {prompt!r} is no template: {error}") from None
        return prompt

    @field_validator("answer_pattern")
    @classmethod
    def _pattern_has_a_group(cls, pattern: str | None) -> str | None:
        try:
            if pattern is not None and not re.compile(pattern).groups:
                raise ValueError("it needs a group, as in `#### (.+)`")
        except (re.error, ValueError, OverflowError) as error:
            raise ValueError(f"data.answer_pattern: {pattern!r} finds no answer: {error}") from None
        return pattern

    @model_validator(mode="after")
    def _system_has_a_place(self) -> DataConfig:
        if self.system is not None and not self.chat:
            raise ValueError("data.system: there is no place for a system message where data.chat is false")
        return self


class TaskConfig(Section):
    name: str
    """Name in metrics and reports."""
    family: str | None = None
    """reasoning-gym family; default: the name. Not with `data`."""
    data: DataConfig | None = None
    """A data set of your own instead of a reasoning-gym family."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Share of the prompts, relative to the other tasks."""
    params: dict[str, Any] = {}
    """The family's own parameters, e.g. {min_terms: 2, max_terms: 4}."""

    @model_validator(mode="after")
    def _one_source(self) -> TaskConfig:
        if self.data and (self.family or self.params):
            given = "family" if self.family else "params"
            raise ValueError(
                f"task {self.name}: {given} belongs to a reasoning-gym family and data to a data set; keep one"
            )
        return self


class RewardConfig(Section):
    name: str
    """Name in metrics and reports."""
    function: str = "task"
    """`task` (its own scorer), math, exact, regex, format, language, length, or `module:function`, which is run."""
    params: dict[str, Any] = {}
    """Parameters of a built-in reward, e.g. {tags: [think, answer]} of format."""
    weight: float = 1.0
    """Weight in the sum that becomes the reward."""
    requires: str | None = None
    """An earlier reward's name: this one is 0 where that one is not full (1). For length and style."""
    deadline: Annotated[float, Field(gt=0)] = 5.0
    """Seconds one call may take, of one rollout or of all at once; a rollout past it is dropped and counted."""


class SftDataConfig(Section):
    """Either a file of demonstrations or a reasoning-gym family that has worked solutions."""

    name: str
    """Name in metrics."""
    file: str | None = None
    """A data set with columns `prompt` and `completion`, found like `data.path`; default: the family's own."""
    family: str | None = None
    """reasoning-gym family; default: the name."""
    params: dict[str, Any] = {}
    """The family's own parameters."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Share of the demonstrations, relative to the other sources."""
    styles: dict[Literal["careful", "hasty", "shortcut", "slip"], NonNegative] = {"careful": 1.0}
    """Shares of careful (every step), hasty (some steps), shortcut (answer only) and slip (wrong) demonstrations."""
