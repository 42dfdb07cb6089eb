"""The run folder: a fresh one each time, and nobody's files are lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from groupwise.run.folder import hold, new_run
from groupwise.types import UserError


def create_run(path: Path, recipe_yaml: str) -> Path:
    """A run that begins."""
    with new_run(path, recipe_yaml) as run:
        return run


def does_not_begin(path: Path, said: str = "") -> None:
    with new_run(path, "steps: 2\n") as run:
        (run / "rewards.log").write_text(said)
        raise UserError("no such model")


def test_a_run_that_does_not_begin_leaves_all_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, empty, new = create_run(tmp_path / "old", "steps: 1\n"), tmp_path / "empty", tmp_path / "new"
    (old / "model").mkdir()
    empty.mkdir()
    for path in (old, empty, new):
        with pytest.raises(UserError, match="no such model"):
            does_not_begin(path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "old"]
    assert (old / "recipe.yaml").read_text() == "steps: 1\n" and (old / "model").is_dir()
    assert list(empty.iterdir()) == []
    moved, back = capsys.readouterr().out.splitlines()
    assert moved == f"The earlier run in {old} is now in {old}-1."
    assert back == f"It is back in {old}: nothing has been written."


def test_what_was_written_stays(tmp_path: Path) -> None:
    create_run(tmp_path / "run", "steps: 1\n")
    with pytest.raises(UserError, match="no such model"):
        does_not_begin(tmp_path / "run", said="why")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run-1"]
    assert (tmp_path / "run" / "rewards.log").read_text() == "why"


def test_a_new_folder_holds_its_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = create_run(tmp_path / "runs" / "demo", "steps: 3\n")
    assert (run / "recipe.yaml").read_text() == "steps: 3\n"
    assert capsys.readouterr().out == ""


def test_an_empty_folder_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create_run(tmp_path, "steps: 3\n")
    assert capsys.readouterr().out == ""


def test_earlier_runs_move_aside_and_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "demo"
    for number in range(3):
        create_run(run, f"steps: {number}\n")
    out = capsys.readouterr().out
    assert out == "".join(f"The earlier run in {run} is now in {run}-{n}.\n" for n in (1, 2))
    assert [(tmp_path / name / "recipe.yaml").read_text() for name in ("demo-1", "demo-2", "demo")] == [
        "steps: 0\n",
        "steps: 1\n",
        "steps: 2\n",
    ]


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"holds files but no recipe.yaml; it is not a run, so it is left alone"):
        create_run(tmp_path, "steps: 3\n")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"run.dir: .*file is a file, not a folder"):
        create_run(tmp_path / "file", "steps: 3\n")
    with pytest.raises(UserError, match=r"run.dir: .*below cannot be written: Not a directory"):
        create_run(tmp_path / "file" / "below", "steps: 3\n")


@pytest.mark.parametrize(("method", "name"), [("write_text", "new"), ("mkdir", "new"), ("rename", "old")])
def test_where_nothing_may_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, name: str) -> None:
    def refuse(self: Path, *args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    create_run(tmp_path / "old", "steps: 3\n")
    monkeypatch.setattr(Path, method, refuse)
    with pytest.raises(UserError, match=rf"run.dir: .*{name} cannot be written: Permission denied"):
        create_run(tmp_path / name, "steps: 3\n")


def test_the_working_directory_cannot_move_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    create_run(Path(), "steps: 3\n")
    with pytest.raises(UserError, match="cannot be written"):
        create_run(Path(), "steps: 4\n")
    assert Path("recipe.yaml").read_text() == "steps: 3\n"


HELD_ELSEWHERE = "another process is at work in"


def elsewhere(run: Path) -> str:
    """What another process says that wants the run folder."""
    code = "import sys, pathlib, groupwise.run.folder as f; f.hold(pathlib.Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=False)
    return done.stderr


def test_one_process_at_a_time_is_at_work_in_a_run(tmp_path: Path) -> None:
    with new_run(tmp_path / "run", "steps: 1\n") as run:
        assert HELD_ELSEWHERE in elsewhere(run)
    assert elsewhere(run) == ""
    first, second = hold(run), hold(run)  # runs of one process come one after the other, closed or not
    first.close()
    assert HELD_ELSEWHERE in elsewhere(run)
    second.close()
    assert elsewhere(run) == ""
    assert (run / "recipe.yaml").read_text() == "steps: 1\n"


def test_the_run_of_another_process_is_not_moved_aside(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", "steps: 1\n")
    code = (
        "import sys, pathlib, groupwise.run.folder as f; f.hold(pathlib.Path(sys.argv[1])); "
        "print('held', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", code.replace("f.hold", "held = f.hold"), str(run)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match=rf"run.dir: {HELD_ELSEWHERE} .*run; end it, or name another run.dir"):
            create_run(run, "steps: 2\n")
        other.kill()  # whoever is killed leaves no lock behind
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert (run / "recipe.yaml").read_text() == "steps: 1\n"
    create_run(run, "steps: 2\n")


def test_who_comes_second_to_a_new_folder_leaves_the_first_one_s_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process begins its run there after we have looked."""

    def late(run: Path) -> None:
        (run / "recipe.yaml").write_text("steps: 1\n")
        raise UserError(f"run.dir: {HELD_ELSEWHERE} {run}")

    monkeypatch.setattr("groupwise.run.folder.hold", late)
    with pytest.raises(UserError, match=HELD_ELSEWHERE):
        create_run(tmp_path / "run", "steps: 2\n")
    assert (tmp_path / "run" / "recipe.yaml").read_text() == "steps: 1\n"
