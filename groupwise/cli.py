"""The command line. Each command is a function here; the work is done by a stage, imported when it is called."""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from groupwise.arguments import Command
from groupwise.config import Recipe, SftRecipe
from groupwise.mistakes import did_you_mean, mistake, nearest_paths
from groupwise.recipes import AnyRecipe, dump_recipe, load_recipe, read_yaml


def train(arguments: Namespace, overrides: list[str]) -> None:
    """Train a model by GRPO."""
    with _recipe_and_run(Recipe, "tasks", arguments, overrides) as (recipe, run):
        from groupwise.stages.grpo import train as train_grpo

        train_grpo(recipe, run, resume=arguments.resume is not None, profile=arguments.profile)


def sft(arguments: Namespace, overrides: list[str]) -> None:
    """Fine-tune a model on demonstrations."""
    with _recipe_and_run(SftRecipe, "data", arguments, overrides) as (recipe, run):
        from groupwise.stages.sft import train_sft

        train_sft(recipe, run, resume=arguments.resume is not None)


def evaluate(arguments: Namespace, overrides: list[str]) -> None:
    """Measure models on held-out prompts, and compare them."""
    asked = {"seed": arguments.seed, "samples": arguments.samples, "prompts": arguments.prompts}
    overrides += [f"--eval.{key}={value}" for key, value in asked.items() if value is not None]
    found = [_find_model(name) for name in arguments.models]
    run = next((run for _, run in found if run), None)
    path = arguments.recipe or (_recipe_of(run, "tasks", "needs --recipe to be evaluated") if run else None)
    recipe, models = load_recipe(Recipe, path, overrides), [model for model, _ in found]
    if not recipe.tasks:
        names = ", ".join(models)
        raise mistake(f"no tasks to evaluate {names} on; name them with --recipe R or --tasks '[{{name: gcd}}]'")
    if not recipe.eval.prompts:
        raise mistake("eval.prompts is 0: there is nothing to evaluate on; give --prompts N")
    from groupwise.stages.evaluate import evaluate_command

    if arguments.json:
        with contextlib.redirect_stdout(sys.stderr):
            result = evaluate_command(models, recipe)
        print(json.dumps(result, indent=2, allow_nan=False))
    else:
        from rich.console import Console

        from groupwise.stages.eval_table import tables

        console = Console()
        for part in tables(evaluate_command(models, recipe), console.width):
            console.print(part)


def report(arguments: Namespace, overrides: list[str]) -> None:
    """Write a run's report.html and print its path."""
    _recipe_of(arguments.run)
    from groupwise.report import write_report

    print(write_report(arguments.run))


@contextlib.contextmanager
def _recipe_and_run(
    kind: type[AnyRecipe], source: str, arguments: Namespace, overrides: list[str]
) -> Iterator[tuple[AnyRecipe, Path]]:
    """The recipe, and the folder of the run that it makes or resumes; `source` is the list it must not leave empty."""
    path, resume = arguments.recipe, arguments.resume
    if resume and (path or overrides):
        given = " ".join(map(str, filter(None, [path, *overrides])))
        raise mistake(f"--resume continues with the run's own recipe; {given} is not allowed with it")
    if path and source not in (written := read_yaml(path)) and (other := _OTHERS[source]) in written:
        raise mistake(f"{path} names {other}, so it is a recipe of groupwise {'sft' if other == 'data' else 'train'}")
    file = _recipe_of(resume, source, "cannot be resumed by this command") if resume else path
    recipe: Any = load_recipe(kind, file, overrides)
    if not getattr(recipe, source):
        raise mistake(f"{source} is empty{f' in {path}' if path else ''}; give a recipe that names {source}")
    from groupwise.run.folder import hold, new_run
    from groupwise.run.world import rank

    folder = resume or Path(recipe.run.dir or Path("runs", path.stem if path else "unnamed"))
    with contextlib.ExitStack() as stack:
        if rank() == 0:
            stack.enter_context(hold(folder) if resume else new_run(folder, dump_recipe(recipe)))
        yield recipe, folder


def _recipe_of(run: Path, source: str = "", otherwise: str = "") -> Path:
    recipe = run / "recipe.yaml"
    if not recipe.is_file():
        raise mistake(f"{run} is no run folder{_near_runs(run)}")
    if source and source not in read_yaml(recipe):
        raise mistake(f"{run} {otherwise}: its recipe has no {source}")
    return recipe


def _near_runs(run: Path) -> str:
    runs = {found.parent for root in (run.parent, Path("runs")) for found in root.glob("*/recipe.yaml")}
    return did_you_mean(nearest_paths(run, runs))


def _find_model(name: str) -> tuple[str, Path | None]:
    """The model to load, and the run that it belongs to."""
    path = Path(name)
    if (path / "recipe.yaml").is_file():
        if not (path / "model").is_dir():
            command = "train" if "tasks" in read_yaml(path / "recipe.yaml") else "sft"
            raise mistake(f"{path} holds no model yet; groupwise {command} --resume {path} finishes it")
        return str(path / "model"), path
    if len(path.parts) > 1 and path.parent.is_dir() and not path.exists():  # else it may be a hub id
        raise mistake(f"no run or model folder {path}{_near_runs(path)}")
    inside = path.is_dir() and (path.parent / "recipe.yaml").is_file()
    return name, path.parent if inside else None


_OTHERS = {"tasks": "data", "data": "tasks"}  # what the other kind of recipe must name
_FILE = {"metavar": "RECIPE", "type": Path, "help": "the recipe, a YAML file"}
_TRAINING = {
    "recipe": {**_FILE, "nargs": "?"},
    "--resume": {"metavar": "RUN", "type": Path, "help": "continue this run folder with its own recipe"},
}
_COUNT = {"metavar": "N", "type": int}
COMMANDS = {
    "train": Command(
        run=train,
        usage="groupwise train [RECIPE] [--profile] [--KEY VALUE ...]\n       groupwise train --resume RUN [--profile]",
        arguments={
            **_TRAINING,
            "--profile": {"action": "store_true", "help": "measure where the time and the memory of the updates go"},
        },
        recipe=Recipe,
        show_keys=True,
    ),
    "sft": Command(
        run=sft,
        usage="groupwise sft RECIPE [--KEY VALUE ...]\n       groupwise sft --resume RUN",
        arguments=_TRAINING,
        recipe=SftRecipe,
        show_keys=True,
    ),
    "eval": Command(
        run=evaluate,
        usage="groupwise eval MODEL_OR_RUN [MODEL_OR_RUN ...] [--recipe RECIPE] [--seed N]\n"
        "                      [--samples N] [--prompts N] [--json] [--KEY VALUE ...]",
        arguments={
            "models": {
                "metavar": "MODEL_OR_RUN",
                "nargs": "+",
                "help": "a run folder, `seedling`, a model folder or a hub id; several are compared with the first",
            },
            "--recipe": {**_FILE, "help": "what to evaluate on; default: the recipe of the (first) run"},
            "--seed": {**_COUNT, "help": "chooses the held-out prompts and the sampling (eval.seed)"},
            "--samples": {**_COUNT, "help": "completions a prompt (eval.samples)"},
            "--prompts": {**_COUNT, "help": "held-out prompts a task (eval.prompts)"},
            "--json": {"action": "store_true", "help": "print JSON and nothing else on standard output"},
        },
        recipe=Recipe,
    ),
    "report": Command(
        run=report,
        usage="groupwise report RUN",
        arguments={"run": {"metavar": "RUN", "type": Path, "help": "the run folder"}},
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for a user's mistake, 130 when interrupted."""
    try:
        _dispatch(sys.argv[1:] if argv is None else argv)
        print(end="", flush=True)
    except KeyboardInterrupt:
        print("groupwise: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        if _stdout_is_open():  # it is another pipe that broke: an error
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter's last flush complains
        return 141
    except Exception as error:
        from groupwise.types import UserError  # not at the top: it imports numpy

        if not isinstance(error, UserError):
            raise
        print("groupwise:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


def _dispatch(argv: Sequence[str]) -> None:
    name, *words = argv or ["--help"]
    if name in ("-h", "--help"):
        print(_overview())
    elif name == "--version":
        from groupwise import __version__

        print("groupwise", __version__)
    elif name not in COMMANDS:
        hint = did_you_mean(get_close_matches(name, COMMANDS)) or f"; commands are {', '.join(COMMANDS)}"
        raise mistake(f"unknown command {name}{hint}")
    elif {"-h", "--help"} & set(words):
        print(COMMANDS[name].help(), end="")
    else:
        COMMANDS[name](words)


def _overview() -> str:
    commands = [f"  {name:<10}{command.summary}" for name, command in COMMANDS.items()]
    first = "usage: groupwise COMMAND ...\n\nGroup-aware GRPO post-training of language models.\n"
    last = "\ngroupwise COMMAND --help explains a command and every key of its recipe; groupwise --version."
    return "\n".join([first, *commands, last])


def _stdout_is_open() -> bool:
    poll = select.poll()
    poll.register(sys.stdout, 0)  # asks for errors only
    return not poll.poll(0)
