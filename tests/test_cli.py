"""The command line as a user meets it: what it calls, what it prints, how it refuses, and that it stays light."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import groupwise
from groupwise.cli import main
from groupwise.config import Recipe, SftRecipe
from groupwise.keys import keys
from groupwise.recipes import dump_recipe, load_recipe
from groupwise.types import UserError

HEAVY = ("torch", "transformers", "numpy", "pyarrow", "pandas", "reasoning_gym")
TASKS = "tasks: [{name: gcd}]\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo.yaml").write_text(TASKS)
    return tmp_path


@pytest.fixture
def calls(folder: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The rooms behind the commands, replaced by ones that remember how they were called."""
    seen: dict[str, Any] = {}

    def room(module: str, **functions: Callable[..., object]) -> None:
        fake = ModuleType(module)
        for name, function in functions.items():
            setattr(fake, name, function)
        monkeypatch.setitem(sys.modules, module, fake)

    @contextmanager
    def new_run(path: Path, recipe_yaml: str) -> Iterator[Path]:
        path.mkdir(parents=True)
        (path / "recipe.yaml").write_text(recipe_yaml)
        yield path

    def evaluate_command(models: list[str], recipe: Recipe) -> dict[str, Any]:
        seen.update(models=models, recipe=recipe)
        print("loading the model")
        return {"pass@1": 0.5}

    def train(recipe: Recipe, run_dir: Path, resume: bool, profile: bool) -> None:
        seen.update(recipe=recipe, run=run_dir, resume=resume, profile=profile)

    def train_sft(recipe: SftRecipe, run_dir: Path, resume: bool) -> None:
        seen.update(recipe=recipe, run=run_dir, resume=resume)

    room("groupwise.run.folder", new_run=new_run, hold=lambda run: nullcontext())
    room("groupwise.stages.grpo", train=train)
    room("groupwise.stages.sft", train_sft=train_sft)
    room("groupwise.stages.evaluate", evaluate_command=evaluate_command)
    room("groupwise.stages.eval_table", tables=lambda result, width: [f"{width} columns of {result}"])
    room("groupwise.report", write_report=lambda run: run / "report.html")
    return SimpleNamespace(seen=seen, room=room)


def make_run(path: str, recipe: Recipe | SftRecipe | None = None, *, model: bool = True) -> Path:
    run = Path(path)
    (run / "model" if model else run).mkdir(parents=True)
    (run / "recipe.yaml").write_text(dump_recipe(recipe or load_recipe(Recipe, Path("demo.yaml"), ["--steps=7"])))
    return run


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line that the command line says, without its prefix."""
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("groupwise: ")
    assert err.count("\n") == 1
    return err.removeprefix("groupwise: ").rstrip("\n")


# --- train ---


def test_train_makes_the_run_and_calls_the_stage(calls: SimpleNamespace) -> None:
    assert main(["train", "demo.yaml", "--steps", "3", "--rollout.group_size=4"]) == 0
    seen = calls.seen
    assert (seen["run"], seen["resume"], seen["recipe"].steps) == (Path("runs/demo"), False, 3)
    assert load_recipe(Recipe, Path("runs/demo/recipe.yaml"), []) == seen["recipe"]


def test_options_may_stand_before_and_after_the_recipe(calls: SimpleNamespace) -> None:
    assert main(["train", "--steps", "3", "demo.yaml", "--run.dir", "elsewhere/x"]) == 0
    assert (calls.seen["run"], calls.seen["recipe"].steps) == (Path("elsewhere/x"), 3)


def test_train_without_a_file(calls: SimpleNamespace) -> None:
    assert main(["train", "--tasks", '[{"name": "gcd"}]']) == 0
    assert calls.seen["run"] == Path("runs/unnamed")


def test_resume_uses_the_run_s_recipe(calls: SimpleNamespace) -> None:
    make_run("runs/demo")
    assert main(["train", "--resume", "runs/demo"]) == 0
    assert (calls.seen["run"], calls.seen["resume"], calls.seen["recipe"].steps) == (Path("runs/demo"), True, 7)


def test_a_profile_is_made_when_asked_for_and_no_key_of_the_recipe(calls: SimpleNamespace) -> None:
    assert main(["train", "demo.yaml"]) == 0
    assert calls.seen["profile"] is False
    assert main(["train", "--resume", "runs/demo", "--profile"]) == 0
    assert (calls.seen["profile"], calls.seen["resume"]) == (True, True)
    assert "profile" not in Path("runs/demo/recipe.yaml").read_text()


def test_what_train_refuses(calls: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    make_run("runs/demo")
    make_run("runs/tuned", SftRecipe())
    Path("empty.yaml").write_text("steps: 3")
    cases = {
        "train nodemo.yaml": "no recipe file nodemo.yaml; did you mean demo.yaml?",
        "train demo.yaml --rollout.grupsize 4": ("unknown key --rollout.grupsize; did you mean --rollout.group_size?"),
        "train demo.yaml --resum x": "unknown key --resum; did you mean --resume?",
        "train demo.yaml --steps": "--steps needs a value",
        "train demo.yaml other.yaml": "unexpected argument 'other.yaml'",
        "train demo.yaml --rollout.group_size 7": ("rollout.batch_size 128 is not a multiple of rollout.group_size 7"),
        "train": "tasks is empty; give a recipe that names tasks",
        "train empty.yaml": "tasks is empty in empty.yaml; give a recipe that names tasks",
        "train --resume runs/dem": "runs/dem is no run folder; did you mean runs/demo?",
        "train --resume nothing": "nothing is no run folder",
        "train --resume runs/tuned": "runs/tuned cannot be resumed by this command: its recipe has no tasks",
        "train --resume runs/demo --steps 9": (
            "--resume continues with the run's own recipe; --steps=9 is not allowed with it"
        ),
        "train demo.yaml --resume runs/demo": (
            "--resume continues with the run's own recipe; demo.yaml is not allowed with it"
        ),
    }
    for line, message in cases.items():
        assert refused(capsys, *line.split()) == message, line
    assert calls.seen == {}


# --- eval ---


def test_eval_of_a_run_uses_its_model_and_recipe(
    calls: SimpleNamespace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run("runs/demo")
    monkeypatch.setenv("COLUMNS", "99")
    assert main(["eval", "runs/demo", "--seed", "5", "--samples", "2", "--prompts", "9", "--threads", "1"]) == 0
    recipe = calls.seen["recipe"]
    assert calls.seen["models"] == ["runs/demo/model"]
    assert (recipe.eval.seed, recipe.eval.samples, recipe.eval.prompts, recipe.threads) == (5, 2, 9, 1)
    assert (recipe.seed, recipe.steps) == (0, 7)
    assert "99 columns of {'pass@1': 0.5}" in capsys.readouterr().out


def test_eval_of_a_model_inside_a_run_uses_the_recipe_beside_it(calls: SimpleNamespace) -> None:
    make_run("runs/demo")
    assert main(["eval", "runs/demo/model"]) == 0
    assert calls.seen["models"] == ["runs/demo/model"]
    assert calls.seen["recipe"].steps == 7


def test_eval_of_several_models_uses_the_first_run_s_recipe(calls: SimpleNamespace) -> None:
    make_run("runs/demo")
    make_run("runs/other", load_recipe(Recipe, Path("demo.yaml"), ["--steps=9"]))
    for words in (
        ["--seed", "5", "seedling", "runs/demo", "runs/other"],
        ["seedling", "--seed=5", "runs/demo", "org/x"],
    ):
        assert main(["eval", *words]) == 0
        names = ["seedling", "runs/demo/model", "runs/other/model" if "runs/other" in words else "org/x"]
        assert (calls.seen["models"], calls.seen["recipe"].eval.seed, calls.seen["recipe"].steps) == (names, 5, 7)


def test_eval_with_another_recipe(calls: SimpleNamespace) -> None:
    make_run("runs/demo")
    make_run("runs/tuned", SftRecipe())
    for run in ("runs/demo", "runs/tuned"):
        assert main(["eval", run, "--recipe", "demo.yaml"]) == 0
        assert calls.seen["recipe"] == load_recipe(Recipe, Path("demo.yaml"), [])


@pytest.mark.parametrize("model", ["seedling", "org/name"])
def test_eval_of_any_other_model_needs_tasks(
    calls: SimpleNamespace, capsys: pytest.CaptureFixture[str], model: str
) -> None:
    assert main(["eval", model, "--recipe", "demo.yaml"]) == 0
    assert calls.seen["models"] == [model]
    capsys.readouterr()
    assert refused(capsys, "eval", model) == (
        f"no tasks to evaluate {model} on; name them with --recipe R or --tasks '[{{name: gcd}}]'"
    )


def test_json_is_alone_on_standard_output(calls: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "seedling", "--recipe", "demo.yaml", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"pass@1": 0.5}
    assert err == "loading the model\n"


def test_what_eval_refuses(calls: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    make_run("runs/demo", model=False)
    make_run("runs/tuned", SftRecipe())
    cases = {
        "eval": "the following arguments are required: MODEL_OR_RUN",
        "eval runs/demo": "runs/demo holds no model yet; groupwise train --resume runs/demo finishes it",
        "eval runs/tund": "no run or model folder runs/tund; did you mean runs/tuned?",
        "eval runs/tuned": "runs/tuned needs --recipe to be evaluated: its recipe has no tasks",
        "eval seedling --seed many": "--seed: invalid int value: 'many'",
        "eval seedling runs/tuned runs/tund": "no run or model folder runs/tund; did you mean runs/tuned?",
        "eval seedling org/x": (
            "no tasks to evaluate seedling, org/x on; name them with --recipe R or --tasks '[{name: gcd}]'"
        ),
        "eval seedling --recipe demo.yaml --prompts 0": (
            "eval.prompts is 0: there is nothing to evaluate on; give --prompts N"
        ),
        "eval seedling --recipe demo.yaml --samples 0": "eval.samples: 0 is out of range; it must be greater than 0",
        "eval seedling --recip demo.yaml": "unknown key --recip; did you mean --recipe?",
    }
    for line, message in cases.items():
        assert refused(capsys, *line.split()) == message, line


# --- sft, report ---


def test_sft(calls: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    Path("careful.yaml").write_text("data: [{name: gcd}]\n")
    assert main(["sft", "careful.yaml", "--length", "64"]) == 0
    assert (calls.seen["run"], calls.seen["resume"], calls.seen["recipe"].length) == (Path("runs/careful"), False, 64)
    assert load_recipe(SftRecipe, Path("runs/careful/recipe.yaml"), []) == calls.seen["recipe"]
    assert main(["sft", "--resume", "runs/careful"]) == 0
    assert calls.seen["resume"] is True
    assert refused(capsys, "sft") == "data is empty; give a recipe that names data"
    assert refused(capsys, "sft", "demo.yaml") == "demo.yaml names tasks, so it is a recipe of groupwise train"
    assert refused(capsys, "train", "careful.yaml") == "careful.yaml names data, so it is a recipe of groupwise sft"
    assert refused(capsys, "eval", "runs/careful").endswith("groupwise sft --resume runs/careful finishes it")


def test_report(calls: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    make_run("runs/demo")
    assert main(["report", "runs/demo"]) == 0
    assert capsys.readouterr().out == "runs/demo/report.html\n"
    assert refused(capsys, "report", "runs/demos") == "runs/demos is no run folder; did you mean runs/demo?"
    assert refused(capsys, "report", "runs/demo", "--steps", "3") == "unknown key --steps; see --help"


# --- how commands end ---


def ending_with(calls: SimpleNamespace, error: BaseException) -> int:
    def train(recipe: Recipe, run_dir: Path, resume: bool, profile: bool) -> None:
        raise error

    calls.room("groupwise.stages.grpo", train=train)
    return main(["train", "demo.yaml"])


def test_a_user_s_mistake_anywhere_is_one_line(calls: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    assert ending_with(calls, UserError("no such family:\n  gcdd")) == 2
    assert capsys.readouterr().err == "groupwise: no such family: gcdd\n"


def test_an_interrupt_ends_with_130(calls: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    assert ending_with(calls, KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "groupwise: interrupted\n"


@pytest.mark.parametrize("error", [RuntimeError("a defect"), BrokenPipeError("a worker's pipe")])
def test_any_other_error_rises(calls: SimpleNamespace, error: Exception) -> None:
    with pytest.raises(type(error)):
        ending_with(calls, error)


# --- the real command line, and its weight ---


def command(*argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "groupwise", *argv], capture_output=True, text=True, **options)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("trian demo.yaml", "unknown command trian; did you mean train?"),
        ("zzz", "unknown command zzz; commands are train, sft, eval, report"),
        ("train nodemo.yaml", "no recipe file nodemo.yaml; did you mean demo.yaml?"),
        (
            "train demo.yaml --rollout.overlong gsp",
            "rollout.overlong: 'gsp' is not one of 'keep', 'mask' or 'penalise'",
        ),
    ],
)
def test_a_mistake_on_the_real_command_line(folder: Path, line: str, message: str) -> None:
    done = command(*line.split(), cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"groupwise: {message}\n")


def test_help_is_quick_light_and_complete() -> None:
    code = (
        "import sys, groupwise.cli; groupwise.cli.main(sys.argv[1:]);"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, "train", "--help"], capture_output=True, text=True, check=True)
    assert time.perf_counter() - start < 3  # about .2 s; the margin is for a busy machine
    assert done.stderr == "[]\n"
    for key in keys(Recipe):
        assert key.rpartition(".")[2] if "[]" in key else f"--{key} " in done.stdout


def test_a_recipe_is_loaded_without_heavy_imports(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from groupwise import Recipe; from groupwise.recipes import load_recipe;"
        f"load_recipe(Recipe, Path('demo.yaml'), []); print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_the_overview_names_every_command(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in ("train", "eval", "sft", "report"))


@pytest.mark.parametrize("name", ["train", "eval", "sft", "report"])
def test_every_command_has_help_whatever_else_is_wrong(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--bad", "-h"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: groupwise {name} ")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"groupwise {groupwise.__version__}\n"


def test_a_closed_pipe_is_quiet(folder: Path) -> None:
    script = "import time; time.sleep(.5); from groupwise.cli import main; raise SystemExit(main(['train', '--help']))"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


# --- the package's own names ---


def test_the_package_is_lazy_and_lists_its_names() -> None:
    assert groupwise.Recipe is Recipe
    assert set(groupwise.__all__) <= set(dir(groupwise))
    with pytest.raises(AttributeError, match="nothing"):
        _ = groupwise.nothing


def test_the_loss_is_reached_from_the_top() -> None:
    assert groupwise.policy_loss.__module__.startswith("groupwise.loss")
