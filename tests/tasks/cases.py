"""Rollouts to score, and eyes on the processes that do it."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from groupwise.config import RewardConfig
from groupwise.tasks.scoring import Scorer
from groupwise.types import Completion, Prompt, Rollout

HERE = Path(__file__).parent


def rollouts(texts: Sequence[str], **prompt: Any) -> list[Rollout]:
    return [
        Rollout(
            prompt=Prompt(**{"id": str(i), "task": "chain_sum", "domain": "arithmetic", "text": "1 + 1 =", **prompt}),
            completion=Completion(token_ids=(), logprobs=(), text=text, finish_reason="stop", policy_version=0),
        )
        for i, text in enumerate(texts)
    ]


def reward(function: str = "does", name: str = "r", **more: Any) -> RewardConfig:
    return RewardConfig(name=name, function=function if function == "task" else f"bad_rewards:{function}", **more)


def scored(scorer: Scorer, texts: Sequence[str], **prompt: Any) -> list[Rollout]:
    scorer.score(batch := rollouts(texts, **prompt))
    return batch


def processes() -> dict[int, tuple[int, str]]:
    """Parent and state of every process by its id."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            found[int(entry.name)] = (int(parent), state)
    return found


def descendants(root: int, but: Sequence[int] = ()) -> list[int]:
    """Children, then their children, ..., without those of `but`."""
    table = processes()
    found, fresh = [], [root]
    while fresh:
        fresh = [pid for pid, (parent, _) in table.items() if parent in fresh and pid not in but]
        found += fresh
    return found


def alive(pid: int) -> bool:
    return processes().get(pid, (0, "Z"))[1] != "Z"


def wait_until(condition: Callable[[], bool], patience: float = 10.0) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def script(folder: Path, text: str, deadline: float = 5.0, **options: Any) -> "subprocess.Popen[bytes]":
    """A training script that makes a Scorer and then does what `text` says."""
    head = f"""
import os, sys
sys.path[:0] = {[str(HERE), str(HERE.parents[1])]!r}
from cases import descendants, reward, rollouts
from groupwise.tasks.scoring import Scorer
scorer = Scorer([], [reward(deadline={deadline})])
scorer.ready()
"""
    (folder / "train.py").write_text(head + text)
    return subprocess.Popen([sys.executable, str(folder / "train.py")], **options)
