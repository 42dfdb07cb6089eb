"""Every shipped recipe runs, shrunken, through the real command line; and every metric it writes is documented."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tiny import tiny_model

from groupwise.run.metrics import read_metrics

ROOT = Path(__file__).parents[1]
SHRUNKEN = {
    "train": [
        "--steps=2",
        "--threads=1",
        "--rollout.batch_size=24",
        "--rollout.group_size=2",
        "--eval.prompts=3",
        "--eval.every=1",
        "--update.warmup=0",
        "--rollout.max_tokens=48",
    ],
    "sft": ["--steps=2", "--threads=1", "--rows=2", "--micro_rows=1"],
}
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run folders by recipe."""
    folder = tmp_path_factory.mktemp("recipes")
    runs = {}
    for recipe in RECIPES:
        written = yaml.safe_load(recipe.read_text())
        command = "sft" if "data" in written else "train"
        out = folder / recipe.stem
        embedded = command == "train" and written["model"] == "seedling"
        more = [] if embedded else [f"--model={tiny_model(folder / 'tiny', context=1024)}"]
        line = [sys.executable, "-m", "groupwise", command, str(recipe), f"--run.dir={out}", *SHRUNKEN[command], *more]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        runs[recipe.name] = out
    return runs


@pytest.mark.parametrize("name", [recipe.name for recipe in RECIPES])
def test_it_runs(run: dict[str, Path], name: str) -> None:
    assert len(read_metrics(run[name] / "metrics.jsonl")) == 2
    assert (run[name] / "model" / "config.json").exists()


@pytest.mark.parametrize("name", [recipe.name for recipe in RECIPES])
def test_every_metric_is_documented(run: dict[str, Path], name: str) -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    documented = [re.escape(n).replace("NAME", "[^/]+") for n in re.findall(r"`([a-zA-Z_/@1]+)`", page)]
    for metric in {key for row in read_metrics(run[name] / "metrics.jsonl") for key in row}:
        assert any(re.fullmatch(pattern, metric) for pattern in documented), f"{metric} is not in docs/metrics.md"


def test_a_page_names_no_metric_that_is_never_written(run: dict[str, Path]) -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    written = {key for folder in run.values() for row in read_metrics(folder / "metrics.jsonl") for key in row}
    rare = {"policy/kl", "rollouts/dropped/NAME"}  # only with a reference, only when something is dropped
    rare |= set(re.findall(r"`([^`]+)`", page[page.index("With `grouping.kind: clusters`") : page.index("## Policy")]))
    for name in set(re.findall(r"^\| (.*?) \|", page, re.MULTILINE)):
        for metric in re.findall(r"`([^`]+)`", name):
            pattern = re.escape(metric).replace("NAME", "[^/]+")
            assert metric in rare or any(re.fullmatch(pattern, w) for w in written), f"{metric} is never written"


def test_the_embedded_model_is_small_and_whole() -> None:
    folder = ROOT / "groupwise" / "assets" / "seedling"
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 12 * 2**20
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= {f.name for f in folder.iterdir()}
