"""Every example runs, shrunken; and the documentation builds."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_model

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
SMALL: dict[str, Any] = {
    "steps": 2,
    "threads": 1,
    "rollout": {"group_size": 2, "batch_size": 8, "max_tokens": 12},
    "eval": {"prompts": 4},
}


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_none_is_forgotten() -> None:
    assert {path.name for path in EXAMPLES.iterdir()} - {"__pycache__"} == {
        "lora.py",
        "notebook.ipynb",
        "own_data",
        "reward.py",
    }


def test_reward(there: Path) -> None:
    example = runpy.run_path(str(EXAMPLES / "reward.py"))
    run = example["main"](example["RECIPE"] | SMALL)
    assert "reward/brevity/mean" in run.metrics
    assert "2 of 2 updates" in repr(run)


def test_lora(there: Path) -> None:
    example = runpy.run_path(str(EXAMPLES / "lora.py"))
    questions = [{"prompt": f"{a} + {b} = ?", "answer": str(a + b)} for a in range(6) for b in range(6)]
    run = example["main"](example["RECIPE"] | SMALL | {"model": str(tiny_model(there / "tiny"))}, data=questions)
    assert (run.path / "adapter").is_dir()
    assert "reward/shown/mean" in run.metrics


def test_own_data(there: Path) -> None:
    small = ["--steps=2", "--threads=1", "--rollout.batch_size=8", "--rollout.max_tokens=12", "--eval.prompts=4"]
    line = [sys.executable, "-m", "groupwise", "train", "examples/own_data/recipe.yaml", f"--run.dir={there / 'run'}"]
    done = subprocess.run([*line, *small], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (there / "run" / "report.html").exists()


def test_notebook(there: Path) -> None:
    """Its cells, one after the other; it is small as it is."""
    cells = json.loads((EXAMPLES / "notebook.ipynb").read_text())["cells"]
    space: dict[str, Any] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), space)
    assert "pass@1" in space["run"]._repr_html_()
    assert "<svg" in space["run"]._repr_html_()
