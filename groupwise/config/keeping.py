"""What a run leaves behind."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from groupwise.config.section import Positive, Section


class FolderConfig(Section):
    dir: str | None = None
    """The run's own folder; default `runs/<recipe's stem>`."""


class RunConfig(FolderConfig):
    rollouts: bool = True
    """Keep every rollout as Parquet under `rollouts/`."""
    report: bool = True
    """Write `report.html` when the run ends."""


class CheckpointConfig(Section):
    every: Annotated[int, Field(ge=0)] = 20
    """Updates between checkpoints; 0: only at the end or when interrupted."""
    keep: Positive = 2
    """Checkpoints kept, newest first."""


class LogConfig(Section):
    tensorboard: bool = False
    """Also write TensorBoard events (extra `groupwise[tensorboard]`)."""
    wandb: str | None = None
    """Also log to this Weights & Biases project (extra `groupwise[wandb]`)."""
    trackio: str | None = None
    """Also log to this trackio project (extra `groupwise[trackio]`)."""
