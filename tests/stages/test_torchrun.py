"""Several processes under torchrun make the run that one process makes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_model

from groupwise.run.world import World
from stages.runs import ENVIRONMENT, PATIENCE, command, rollouts, rows, write_recipe

BROKEN = """
import sys
from groupwise import Trainer, UserError

trainer = Trainer(sys.argv[1])
if trainer.world.rank == 1:
    trainer.comparison.embed = None
try:
    trainer.step()
except (TypeError, UserError) as error:
    print(f"<{type(error).__name__}: {error}>", flush=True)
"""

OF_ONE_MIND = """
import sys
from groupwise import Trainer, UserError

def in_process_1(trainer, row):
    if trainer.world.rank == 1 and trainer.steps_done == 1:
        raise ValueError("no more")
    if trainer.world.rank == 1 and trainer.steps_done == 3:
        trainer.stop()

trainer = Trainer(sys.argv[1], callbacks=[in_process_1])
try:
    trainer.train()
except (ValueError, UserError) as error:
    print(f"{type(error).__name__}: {error}", flush=True)
trainer.train()
print(f"process {trainer.world.rank} made {trainer.steps_done} updates", flush=True)
"""


def torchrun(folder: Path, processes: int, *argv: str) -> subprocess.CompletedProcess[str]:
    """What comes after `python` with these arguments, in several processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.run(
        [*launcher, *argv],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Run folders of one process, and of two that ended after their second update and were resumed."""
    folder = tmp_path_factory.mktemp("torchrun")
    model = tiny_model(folder / "tiny")
    sizes = {"steps": 4, "loss": {"beta": 0.02}, "eval": {"prompts": 5, "every": 4}}
    write_recipe(folder / "r.yaml", model, **sizes)
    one = command(folder, "train", "r.yaml", "--run.dir", "one")
    assert one.code == 0, one.err
    write_recipe(folder / "r.yaml", model, **sizes)
    two = torchrun(folder, 2, "-m", "groupwise", "train", "r.yaml", "--run.dir", "two")
    assert two.returncode == 0, two.stdout + two.stderr
    assert two.stdout.count("update 4/4") == 1, "one process speaks"
    (folder / "two" / "summary.json").unlink()
    (folder / "two" / "checkpoints" / "step-000004.pt").unlink()  # as if it had ended here: later rows are repeated
    again = torchrun(folder, 2, "-m", "groupwise", "train", "--resume", "two")
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count("update 4/4") == 1
    assert "update 2/4" not in again.stdout
    return folder / "one", folder / "two"


def test_two_processes_draw_and_score_what_one_does(folders: tuple[Path, Path]) -> None:
    one, two = (rollouts(folder)["step-000001.parquet"].to_pydict() for folder in folders)
    for column in ("prompt_id", "completion", "reward", "advantage", "group"):
        assert one[column] == two[column]


def test_two_processes_learn_what_one_does(folders: tuple[Path, Path]) -> None:
    one, two = (rows(folder) for folder in folders)
    assert len(one) == len(two) == 4
    for name in ("loss", "policy/grad_norm", "policy/entropy", "policy/kl", "policy/clip_fraction", "reward/mean"):
        np.testing.assert_allclose([r[name] for r in two], [r[name] for r in one], rtol=1e-3, atol=1e-5, err_msg=name)


def test_shares_cover_all_in_order() -> None:
    for size in (1, 2, 3, 7):
        shares = [list(World(rank, size).share(range(5))) for rank in range(size)]
        assert [item for share in shares for item in share] == list(range(5))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_an_embedding_that_fails_in_one_process_ends_the_update_in_all(tmp_path: Path) -> None:
    write_recipe(tmp_path / "r.yaml", tiny_model(tmp_path / "tiny"))
    (tmp_path / "broken.py").write_text(BROKEN)
    ran = torchrun(tmp_path, 2, "broken.py", "r.yaml")
    assert "<TypeError: 'NoneType' object is not callable>" in ran.stdout, ran.stderr
    assert "<UserError: process 1: TypeError: 'NoneType' object is not callable>" in ran.stdout, ran.stderr


def test_a_callback_that_fails_or_stops_in_one_process_does_so_in_all(tmp_path: Path) -> None:
    write_recipe(tmp_path / "r.yaml", tiny_model(tmp_path / "tiny"), eval={"prompts": 0}, checkpoint={"every": 0})
    (tmp_path / "mind.py").write_text(OF_ONE_MIND)
    ran = torchrun(tmp_path, 2, "mind.py", "r.yaml")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("ValueError: no more") == 2  # both may speak on one line
    for said in ("UserError: process 1: ValueError", "process 0 made 3 updates", "process 1 made 3 updates"):
        assert said in ran.stdout
    saved = sorted(path.name for path in (tmp_path / "runs" / "r" / "checkpoints").iterdir())
    assert saved == ["step-000001.pt", "step-000003.pt"]
