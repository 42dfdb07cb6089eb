"""Runs of the command line, and what they leave behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from groupwise.run.metrics import read_metrics

HERE = Path(__file__).parent
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "COLUMNS": "120",
    "PYTHONPATH": f"{HERE.parents[1]}:{HERE}",
}
PATIENCE = 900.0  # seconds that a small run may take on a machine that has other things to do

# Twice the same family, at different difficulties, so that there are two tasks; updates of 16 rollouts. A random model
# is as often right before as after, but a vowel ends a completion: lengths show the least difference between models.
RECIPE: dict[str, Any] = {
    "steps": 6,
    "threads": 1,
    "device": "cpu",
    "tasks": [
        {"name": "easy", "family": "chain_sum", "params": {"max_terms": 2, "max_digits": 1, "min_digits": 1}},
        {"name": "hard", "family": "chain_sum"},
    ],
    "rewards": "digits",
    "rollout": {"group_size": 4, "batch_size": 16, "max_tokens": 12, "stop": list("aeiouAEIOU")},
    "update": {"learning_rate": 3e-3, "epochs": 2, "minibatches": 2},
    "eval": {"prompts": 8},
    "checkpoint": {"every": 2},
    "grouping": {"memory_mib": 1000},  # free memory is part of a run's state
}
# Updates have four optimizer steps; every second update is saved, every third is followed by an evaluation.
PLAIN: dict[str, Any] = {"eval": {"every": 3}}


def write_recipe(path: Path, model: Path, **sections: Any) -> Path:
    """See `recipe`."""
    path.write_text(yaml.safe_dump(recipe(model, **sections)))
    return path


def recipe(model: Path, **sections: Any) -> dict[str, Any]:
    """RECIPE with other keys, one level deep; `rewards="name"` is that function of stage_rewards."""
    made = {"model": str(model), **RECIPE}
    for name, value in sections.items():
        made[name] = {**made.get(name, {}), **value} if isinstance(value, dict) else value
    if isinstance(name := made["rewards"], str):
        made["rewards"] = [reward(name)]
    return made


def reward(name: str, deadline: float = 60.0) -> dict[str, Any]:
    """The reward `name` of stage_rewards, patient enough for a busy machine."""
    return {"name": name, "function": f"stage_rewards:{name}", "deadline": deadline}


@dataclass(frozen=True)
class Ended:
    """A command that is over; a `code` below 0 is the signal that ended it."""

    code: int
    out: str
    err: str


class Running:
    """A command under way in a fork of the warm process."""

    def __init__(self, warm: Warm, number: int, folder: Path) -> None:
        self.number = number
        self._warm, self._folder = warm, folder

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.number, number)  # it is nobody else's: the warm process has not waited for it yet

    def wait(self) -> Ended:
        code = self._warm.ask({"child": self.number, "patience": PATIENCE})
        return Ended(code, read(self._folder / "out"), read(self._folder / "err"))


class Warm:
    """See warm.py."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "warm.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def ask(self, request: Mapping[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            print(json.dumps(request), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the warm process is gone: {self._process.wait()}")
        return int(answer)

    def start(
        self, folder: Path, *argv: str | Path, at: Sequence[tuple[str, int, str, str]] = (), largest_file: int = 0
    ) -> Running:
        """`groupwise ARGV` in `folder`."""
        request = {
            "argv": list(map(str, argv)),
            "cwd": str(folder),
            "out": str(folder / "out"),
            "err": str(folder / "err"),
            "at": list(at),
            "largest_file": largest_file,
        }
        return Running(self, self.ask(request), folder)

    def run(self, folder: Path, *argv: str | Path, **more: Any) -> Ended:
        return self.start(folder, *argv, **more).wait()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._process.stdout.close()


def command(folder: Path, *argv: str | Path) -> Ended:
    """`python -m groupwise ARGV` in `folder`, as a user starts it."""
    done = subprocess.run(
        [sys.executable, "-m", "groupwise", *map(str, argv)],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def rows(run: Path) -> list[dict[str, Any]]:
    return read_metrics(run / "metrics.jsonl")


def rollouts(run: Path) -> dict[str, pa.Table]:
    return {path.name: pq.read_table(path) for path in sorted((run / "rollouts").glob("*.parquet"))}


def summary(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return found


def of_this_machine(name: str) -> bool:
    """Whether a metric depends on how fast the machine was."""
    return name.startswith(("time/", "memory/")) or name == "tokens/per_second"


def outcome(run: Path) -> dict[str, Any]:
    """All that two runs which did the same have in common, to the last bit."""
    import torch

    checkpoints = sorted((run / "checkpoints").iterdir())
    last = torch.load(checkpoints[-1], weights_only=True)
    del last["totals"]["train_seconds"], last["totals"]["generate_seconds"], last["totals"]["update_seconds"]
    timings = ("train_seconds", "generate_seconds", "update_seconds", "peak_memory_mib")
    return {
        "weights": (run / "model" / "model.safetensors").read_bytes(),
        "state": as_bytes(last),
        "checkpoints": [path.name for path in checkpoints],
        "rows": [{name: v for name, v in row.items() if not of_this_machine(name)} for row in rows(run)],
        "rollouts": {name: table.to_pydict() for name, table in rollouts(run).items()},
        "summary": {name: value for name, value in summary(run).items() if name not in timings},
    }


def finished(warm: Warm, folder: Path) -> dict[str, Any]:
    """The outcome of the recipe in `folder`, run without interruption."""
    ended = warm.run(folder, "train", "r.yaml")
    assert ended.code == 0, ended.err
    return outcome(folder / "runs" / "r")


def resumed(warm: Warm, folder: Path) -> dict[str, Any]:
    """The outcome of the run in `folder`, resumed to its end."""
    ended = warm.run(folder, "train", "--resume", "runs/r")
    assert ended.code == 0, ended.err
    return outcome(folder / "runs" / "r")


def as_bytes(tree: Any) -> Any:
    """A tree whose tensors have become bytes."""
    import torch

    if isinstance(tree, torch.Tensor):
        return (str(tree.dtype), tuple(tree.shape), tree.contiguous().numpy().tobytes())
    if isinstance(tree, Mapping):
        return {key: as_bytes(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [as_bytes(value) for value in tree]
    return tree


def differences(one: Any, other: Any, place: str = "") -> list[str]:
    """Where two outcomes differ, in fewer lines than `==` would take."""
    if isinstance(one, Mapping) and isinstance(other, Mapping) and one.keys() == other.keys():
        return [found for key in one for found in differences(one[key], other[key], f"{place}/{key}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [
            found for i, pair in enumerate(zip(one, other, strict=True)) for found in differences(*pair, f"{place}/{i}")
        ]
    both_nan = one != one and other != other
    return [] if one == other or both_nan else [f"{place}: {str(one)[:60]} and {str(other)[:60]}"]
