"""What is trained on, and how it is scored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from groupwise.config.section import NonNegative, Section, Share


class DataConfig(Section):
    """A data set of prompts. Columns that are not named here stay with the prompt as its metadata."""

    path: str
    """A JSONL, CSV or Parquet file, a folder or pattern of them, or a data set on the Hugging Face hub."""
    subset: str | None = None
    """Hub: which of the data set's configurations, e.g. main."""
    split: str = "train"
    """Hub: the split that is trained on."""
    held_out_split: str | None = None
    """Hub: the split that is evaluated on; default: a share of `split`."""
    held_out: Share = 0.1
    """Share of the prompts that is kept for evaluation, chosen by a hash of the prompt, never by its place."""
    streaming: bool = False
    """Hub: read records as they are needed instead of downloading all first."""
    prompt: str = "prompt"
    """Column with the prompt, as text or chat messages, or a template such as `Solve: {question}`."""
    system: str | None = None
    """System message before each prompt."""
    chat: bool = True
    """Put the model's chat template around prompts that are text; false: the text is fed as it is."""
    answer: str | None = None
    """Column with the reference answer; default: `answer`, where there is one."""
    answer_pattern: str | None = None
    """Regular expression whose first group, at its last match in that column, is the answer, e.g. `#### (.+)`."""
    domain: str | None = None
    """Column with the prompt's domain; default: the task's name for all."""


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


class RewardConfig(Section):
    name: str
    """Name in metrics and reports."""
    function: str = "task"
    """`task` (its own scorer), math, exact, regex, format, language, length, or `module:function`, which runs that code."""
    params: dict[str, Any] = {}
    """Parameters of a built-in reward, e.g. {tags: [think, answer]} of format."""
    weight: float = 1.0
    """Weight in the sum that becomes the reward."""
    deadline: Annotated[float, Field(gt=0)] = 5.0
    """Seconds one call may take; past it the rollout is dropped and counted."""


class SftDataConfig(Section):
    """Either a file of demonstrations or a reasoning-gym family that has worked solutions."""

    name: str
    """Name in metrics."""
    file: str | None = None
    """JSONL with `prompt` and `completion` in each record; default: demonstrations of the family."""
    family: str | None = None
    """reasoning-gym family; default: the name."""
    params: dict[str, Any] = {}
    """The family's own parameters."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Share of the demonstrations, relative to the other sources."""
    styles: dict[Literal["careful", "hasty", "shortcut", "slip"], NonNegative] = {"careful": 1.0}
    """Shares of careful (every step), hasty (some steps), shortcut (answer only) and slip (wrong) demonstrations."""
