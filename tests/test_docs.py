"""The documentation builds, names every key and every field of TRL's config, and its TRL script runs on both sides."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_model

ROOT = Path(__file__).parents[1]


def test_the_site_builds_without_a_broken_link(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "index.html").exists()


def test_the_page_of_keys_is_what_the_recipe_says(tmp_path: Path) -> None:
    code = "import recipe_page; print(recipe_page.page() == recipe_page.PAGE.read_text())"
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, cwd=ROOT / "scripts", capture_output=True, text=True, check=True)
    assert done.stdout == "True\n", "run python scripts/recipe_page.py"


def test_every_field_of_trl_s_config_is_answered() -> None:
    from trl import GRPOConfig

    named = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "coming-from-trl.md").read_text()))
    assert {field.name for field in dataclasses.fields(GRPOConfig)} <= named


def test_every_key_that_the_trl_page_names_exists() -> None:
    page = (ROOT / "docs" / "coming-from-trl.md").read_text()
    keys = set(re.findall(r"^\| `?(\w+)`? \|", (ROOT / "docs" / "recipe.md").read_text(), re.MULTILINE))
    for cell in re.findall(r"^\| `.*?` \| (.*?) \|", page, re.MULTILINE):
        for dotted in re.findall(r"`([a-z_]+(?:\[\])?(?:\.[a-z_]+)+)", cell):
            assert dotted.rpartition(".")[2] in keys, dotted


def test_the_page_of_the_run_folder_names_all_that_is_there(tmp_path: Path) -> None:
    """Files, columns of the rollouts and keys of the summary of a real run."""
    import pyarrow.parquet as pq

    from groupwise import Trainer

    recipe = {
        "tasks": [{"name": "gcd"}],
        "steps": 1,
        "rollout": {"batch_size": 4, "group_size": 2, "max_tokens": 4},
        "eval": {"prompts": 2},
        "run": {"dir": str(tmp_path / "run")},
    }
    Trainer(recipe).train()
    (rollouts,) = (tmp_path / "run" / "rollouts").iterdir()
    page = (ROOT / "docs" / "run-folder.md").read_text()
    named = set(re.findall(r"`([\w./-]+?)/?`", page))
    columns = set(pq.read_schema(rollouts).names)
    files = {path.name for path in (tmp_path / "run").iterdir()} - {"rollouts"} | {f"rollouts/{rollouts.name}"}
    keys = set(json.loads((tmp_path / "run" / "summary.json").read_text()))
    assert columns | files | keys <= named


def scripts() -> list[str]:
    """The two sides of the page's example: TRL's, ours."""
    page = (ROOT / "docs" / "coming-from-trl.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[:2]
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in blocks]


@pytest.mark.parametrize("side", ["trl", "groupwise"])
@pytest.mark.filterwarnings("ignore")
def test_the_script_runs_on_both_sides(side: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a tiny model and a tiny data set in place of the hub's, and two updates in place of a hundred."""
    from datasets import Dataset

    monkeypatch.chdir(tmp_path)
    prompts = [[{"role": "user", "content": f"Say {word}."}] for word in ("one", "two", "three", "four") * 4]
    prompts = [[{"role": "user", "content": f"{m[0]['content']} {i}"}] for i, m in enumerate(prompts)]
    model = tiny_model(tmp_path / "tiny")
    replaced = {
        "Qwen/Qwen2.5-0.5B-Instruct": str(model),
        'load_dataset("trl-lib/ultrafeedback-prompt", split="train")': "DATA",
        "max_steps=100": "max_steps=2, use_cpu=True, report_to='none'",
        "steps=100": "steps=2",
        "256": "8",
        "=64": "=8",
        '"batch_size": 64': '"batch_size": 8',
    }
    script = scripts()[side == "groupwise"]
    for old, new in replaced.items():
        script = script.replace(old, new)
    space: dict[str, Any] = {"DATA": Dataset.from_dict({"prompt": prompts})}
    exec(compile(script, side, "exec"), space)
    if side == "groupwise":
        assert len(space["trainer"].scorer._rewards) == 1
        assert (tmp_path / "runs" / "letters" / "model" / "config.json").exists()
