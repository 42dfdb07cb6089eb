"""The task that a recipe names."""

from __future__ import annotations

from groupwise.config import TaskConfig
from groupwise.types import Task


def load_task(config: TaskConfig) -> Task:
    """A data set, or a reasoning-gym family. Raises UserError for an unknown family or impossible parameters.

    A data set is not read before its first stream is asked for.
    """
    if config.data is not None:
        from groupwise.tasks.data import DataTask

        return DataTask(config.name, config.data)
    from groupwise.tasks.gym import GymTask

    return GymTask(config.name, config.family or config.name, config.params)
