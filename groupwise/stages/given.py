"""What a user hands to the library (a recipe in any form, records, functions), as the recipe and the parts of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from groupwise.config import DataConfig, Recipe, RewardConfig, TaskConfig
from groupwise.recipes import dump_recipe, load_recipe, recipe_of
from groupwise.run.disk import writing
from groupwise.run.folder import RECIPE, new_run
from groupwise.run.world import World
from groupwise.tasks.data import data_task
from groupwise.tasks.load import load_task
from groupwise.types import Task, UserError

WANT_ANSWERS = ("task", "math", "exact")  # functions of rewards that compare with Prompt.answer
IN_MEMORY = "(in memory)"  # the path, in recipe.yaml, of data that were given from Python
PYTHON = "python:"  # and before the name of a reward, as its function

Rewards = Callable[..., Any] | Sequence[Callable[..., Any]] | Mapping[str, Callable[..., Any]]


def as_recipe(recipe: Recipe | Mapping[str, Any] | str | Path | None) -> Recipe:
    """A recipe, its keys as a mapping, the path of its YAML file, or None for the defaults."""
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, str | Path):
        found = load_recipe(Recipe, Path(recipe), [])
        run = found.run.dir or f"runs/{Path(recipe).stem}"
        return found.model_copy(update={"run": found.run.model_copy(update={"dir": run})})
    return recipe_of(Recipe, recipe or {})


def with_data(recipe: Recipe) -> Recipe:
    """The recipe of a run on records given from Python: one task, whose columns are those of its `data`, if any."""
    if len(recipe.tasks) > 1 or any(task.data is None for task in recipe.tasks):
        names = ", ".join(task.name for task in recipe.tasks)
        raise UserError(f"tasks: with data given, leave tasks empty or name one with `data`; given: {names}")
    task = recipe.tasks[0] if recipe.tasks else TaskConfig(name="data")
    columns = task.data or DataConfig(path=IN_MEMORY)
    task = task.model_copy(update={"data": columns.model_copy(update={"path": IN_MEMORY})})
    return recipe.model_copy(update={"tasks": [task]})


def with_rewards(recipe: Recipe, rewards: Rewards | None) -> tuple[Recipe, dict[str, Callable[..., Any]]]:
    """The recipe with a reward for each function given from Python, and these functions by name.

    They replace the default reward; rewards that the recipe names itself stay, and lend weight and deadline to a
    function of the same name.
    """
    functions = _by_name(rewards)
    if not functions:
        return recipe, {}
    named = recipe.rewards if "rewards" in recipe.model_fields_set else []
    known = {reward.name for reward in named}
    every = [*named, *(RewardConfig(name=name) for name in functions if name not in known)]
    all_rewards = [
        reward.model_copy(update={"function": PYTHON + reward.name}) if reward.name in functions else reward
        for reward in every
    ]
    return recipe.model_copy(update={"rewards": all_rewards}), functions


def is_from_python(recipe: Recipe) -> bool:
    """Whether data or rewards of the run were given from Python: the command line cannot give them again."""
    paths = [task.data.path for task in recipe.tasks if task.data]
    return IN_MEMORY in paths or any(reward.function.startswith(PYTHON) for reward in recipe.rewards)


def what_continues(recipe: Recipe, run_dir: Path) -> str:
    """The call or the command that resumes the run."""
    return "Trainer(..., resume=True)" if is_from_python(recipe) else f"groupwise train --resume {run_dir}"


def tasks_of(recipe: Recipe, data: Any) -> list[Task]:
    """The recipe's tasks, on `data` where records were given. UserError where a reward wants answers that they lack."""
    if data is None:
        tasks = [load_task(task) for task in recipe.tasks]
    else:
        tasks = [data_task(recipe.tasks[0].name, data, recipe.tasks[0].data)]
    wanting = [reward.name for reward in recipe.rewards if reward.function in WANT_ANSWERS]
    for task, config in zip(tasks, recipe.tasks, strict=True):
        first = next(iter(task.stream(recipe.seed, held_out=False)), None) if config.data and wanting else None
        if config.data and first and first.answer is None:
            raise UserError(
                f"task {task.name}: reward {wanting[0]!r} compares with answers, but the data have no column "
                f"{config.data.answer or 'answer'!r}; name it in data.answer, or give a reward that needs none"
            )
    return tasks


@contextmanager
def run_folder(recipe: Recipe, world: World, resume: bool) -> Iterator[Path]:
    """The run's folder, fresh unless it is to be resumed and is there; see `new_run`."""
    path = Path(recipe.run.dir or "runs/unnamed")
    goes_on = resume and (path / RECIPE).exists()
    with new_run(path, dump_recipe(recipe)) if world.is_first and not goes_on else nullcontext():
        world.wait()
        yield path


def rewards_log(run_dir: Path) -> Path:
    """The file that takes what rewards print; made here, so that a disk that refuses is told at the start."""
    log = run_dir / "rewards.log"
    with writing(log):
        log.touch()
    return log


def _by_name(rewards: Rewards | None) -> dict[str, Callable[..., Any]]:
    if rewards is None:
        return {}
    if isinstance(rewards, Mapping):
        return dict(rewards)
    several = list(rewards) if isinstance(rewards, Sequence) else [rewards]
    names = [str(getattr(function, "__name__", type(function).__name__)) for function in several]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"rewards: two functions are named {twice[0]!r}; give them as {{name: function}}")
    return dict(zip(names, several, strict=True))
