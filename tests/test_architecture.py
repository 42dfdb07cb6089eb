"""The house stands as CONTRIBUTING.md draws it: imports point one way, start-up is light, no file outgrows its subject.

The checks are functions of source texts, so that each can also be shown a house with a fault in it.
"""

from __future__ import annotations

import ast
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

import groupwise

MOST_LINES = 300
HEAVY = (
    "optuna",
    "peft",
    "ray",
    "sentence_transformers",
    "tensorboard",
    "trackio",
    "trl",
    "vllm",
    "wandb",
)  # optional packages

# What a unit (a folder or module right under groupwise/) may import beside itself. A unit without a row is a room.
ROOM = {"types", "config", "statistics", "run", "attention"}
ARROWS: dict[str, set[str]] = {
    "types": set(),
    "config": set(),
    "statistics": {"types"},
    "attention": set(),
    "run": {"types", "config"},
    "report": {"types", "config", "statistics", "run"},
    "learner": ROOM | {"loss"},  # it calls the losses
    "mistakes": {"types"},
    "keys": set(),
    "arguments": {"keys", "mistakes"},
    "recipes": {"types", "config", "arguments", "keys", "mistakes"},
}
# Where the rooms meet, and who may ask for that: these import what they need.
MEETING_PLACES = {"stages", "cli", "__main__", "__init__", "study", "cluster"}


@dataclass(frozen=True)
class Import:
    """One name that a module imports; `lazily`: inside a function, thus not when the module is loaded."""

    module: str
    name: str
    lazily: bool

    def __str__(self) -> str:
        return f"{self.module} imports {self.name}"


def sources() -> dict[str, str]:
    """Every module of the package by its dotted name; a package's own file ends in `.__init__`."""
    root = Path(groupwise.__file__).parent
    return {
        ".".join(["groupwise", *path.relative_to(root).with_suffix("").parts]): path.read_text()
        for path in sorted(root.rglob("*.py"))
    }


def imports(texts: Mapping[str, str]) -> list[Import]:
    """All imports that can happen at run time: those under TYPE_CHECKING cannot."""
    return [
        Import(module, name, lazily)
        for module, text in texts.items()
        for node, lazily in _import_nodes(ast.parse(text))
        for name in _imported(module, node, texts)
    ]


def _import_nodes(node: ast.AST, lazily: bool = False) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node, lazily
    children = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        children = list(node.orelse)
    for child in children:
        yield from _import_nodes(child, lazily or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))


def _imported(module: str, node: ast.Import | ast.ImportFrom, texts: Mapping[str, str]) -> list[str]:
    """Dotted names as in `sources`: `from groupwise.loss import kl` is the module groupwise.loss.kl."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    else:
        home = resolve_name("." * node.level + (node.module or ""), module.rpartition(".")[0])
        names = [
            f"{home}.{alias.name}" if {f"{home}.{alias.name}", f"{home}.{alias.name}.__init__"} & set(texts) else home
            for alias in node.names
        ]
    return [f"{name}.__init__" if f"{name}.__init__" in texts else name for name in dict.fromkeys(names)]


def unit(module: str) -> str:
    return module.split(".")[1]


def wrong_arrows(texts: Mapping[str, str]) -> list[str]:
    """Imports between units that the drawing does not have."""
    return [
        str(i)
        for i in imports(texts)
        if i.name.startswith("groupwise.")
        and unit(i.module) not in MEETING_PLACES
        and unit(i.name) not in ARROWS.get(unit(i.module), ROOM) | {unit(i.module)}
    ]


def uses_of_stages(texts: Mapping[str, str]) -> list[str]:
    wrong = (
        i for i in imports(texts) if i.name.startswith("groupwise.stages") and unit(i.module) not in MEETING_PLACES
    )
    return [str(i) for i in wrong]


def eager_heavy_imports(texts: Mapping[str, str]) -> list[str]:
    return [str(i) for i in imports(texts) if not i.lazily and i.name.split(".")[0] in HEAVY]


def import_cycle(texts: Mapping[str, str]) -> list[str]:
    """Modules that import each other in a circle, lazily or not; empty where there is none."""
    graph: dict[str, set[str]] = {module: set() for module in texts}
    for i in imports(texts):
        if i.name in texts and i.name != "groupwise.__init__":  # the package's own names are lazy strings
            graph[i.module].add(i.name)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def long_files(texts: Mapping[str, str]) -> list[str]:
    lengths = {module: len(text.splitlines()) for module, text in texts.items()}
    return [f"{module} has {length} lines" for module, length in lengths.items() if length > MOST_LINES]


Check = Callable[[Mapping[str, str]], list[str]]
CHECKS: list[Check] = [wrong_arrows, uses_of_stages, eager_heavy_imports, import_cycle, long_files]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_house_is_in_order(check: Check) -> None:
    assert check(sources()) == []


def test_the_sources_are_read() -> None:
    assert {"groupwise.__init__", "groupwise.types", "groupwise.loss.grpo"} <= set(sources())
    assert len(imports(sources())) > 100


FAULTS = {
    "a room looks into another": (wrong_arrows, "loss.kl", "from groupwise.advantage.rloo import rloo_advantages"),
    "a room looks into another, late": (wrong_arrows, "tasks.gym", "def f():\n    import groupwise.rollout.local"),
    "the loss calls the learner": (wrong_arrows, "loss.kl", "from groupwise.learner import update"),
    "a new room looks around": (wrong_arrows, "control.bandit", "from groupwise.tasks import gym"),
    "a room knows the command line": (wrong_arrows, "tasks.gym", "from groupwise import cli"),
    "run knows statistics": (wrong_arrows, "run.metrics", "from groupwise.statistics import mean_interval"),
    "the report knows live objects": (wrong_arrows, "report.page", "from groupwise.learner.update import Learner"),
    "types know the recipe": (wrong_arrows, "types", "from groupwise.config import Recipe"),
    "a sibling package": (wrong_arrows, "grouping.by_prompt", "from ..advantage import rloo"),
    "a helper knows a room": (wrong_arrows, "keys", "import groupwise.loss"),
    "a helper runs stages": (uses_of_stages, "recipes", "def f():\n    from groupwise.stages.grpo import train"),
    "the report runs stages": (uses_of_stages, "report.page", "import groupwise.stages.grpo"),
    "ray at start-up": (eager_heavy_imports, "cluster.place", "import ray.util"),
    "perhaps ray at start-up": (
        eager_heavy_imports,
        "cluster.place",
        "try:\n    import ray\nexcept ImportError:\n    ray = None",
    ),
    "a circle": (import_cycle, "loss.kl", "from groupwise.loss.grpo import GRPO"),
    "a late circle": (import_cycle, "loss.kl", "def f():\n    from . import grpo"),
    "a long file": (long_files, "loss.kl", "\n" * 301),
}
SOUND_HOUSE = {
    "groupwise.__init__": "",
    "groupwise.types": "import numpy",
    "groupwise.config": "",
    "groupwise.cli": "def train():\n    from groupwise.stages.grpo import train",
    "groupwise.stages.__init__": "",
    "groupwise.stages.grpo": "from groupwise.loss import kl, grpo\nfrom groupwise.advantage import rloo",
    "groupwise.advantage.__init__": "",
    "groupwise.advantage.rloo": "from groupwise.types import Floats",
    "groupwise.learner.__init__": "",
    "groupwise.learner.update": "from groupwise.loss.kl import k3\nfrom typing import TYPE_CHECKING\n"
    "if TYPE_CHECKING:\n    import ray\n    from groupwise.stages import grpo",
    "groupwise.loss.__init__": "from groupwise.loss.grpo import GRPO",
    "groupwise.loss.grpo": "from .kl import k3",
    "groupwise.loss.kl": "def f():\n    import trl",
    "groupwise.run.metrics": "from groupwise.config import Recipe",
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_sound_house_passes(check: Check) -> None:
    assert check(SOUND_HOUSE) == []


@pytest.mark.parametrize(("check", "module", "text"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_found(check: Check, module: str, text: str) -> None:
    module = f"groupwise.{module}"
    assert any(module in found for found in check(SOUND_HOUSE | {module: text}))


@pytest.mark.parametrize("module", ["groupwise", "groupwise.config", "groupwise.cli"])
def test_start_up_is_light(module: str) -> None:
    code = f"import sys, {module}; print(*({{'torch', 'transformers', 'numpy'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


@pytest.mark.parametrize("host", ["example.org", "192.0.2.1", "2001:db8::1"])
def test_no_test_reaches_the_network(host: str) -> None:
    with pytest.raises(pytest.fail.Exception, match="reached for the network"):
        socket.create_connection((host, 80), timeout=0.1)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as unguarded, pytest.raises(pytest.fail.Exception, match="reached for the network"):
        unguarded.connect_ex((host, 80))


def test_this_machine_may_be_reached() -> None:
    with socket.create_server(("localhost", 0)) as server:
        socket.create_connection(server.getsockname()[:2], timeout=1).close()
