"""A tiny model, a warm process that runs commands, and a folder in which a recipe lies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_model

from .runs import PLAIN, Warm, finished, write_recipe

Write = Callable[..., Path]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    made = Warm()
    yield made
    made.close()


@pytest.fixture(scope="session")
def plain(warm: Warm, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The outcome of the recipe PLAIN when nothing interrupts it."""
    folder = tmp_path_factory.mktemp("plain")
    write_recipe(folder / "r.yaml", tiny, **PLAIN)
    return finished(warm, folder)


@pytest.fixture
def write(tiny: Path) -> Write:
    """write(folder, **sections): folder/r.yaml, whose run will be folder/runs/r."""

    def written(folder: Path, **sections: Any) -> Path:
        folder.mkdir(exist_ok=True)
        return write_recipe(folder / "r.yaml", sections.pop("model", tiny), **sections)

    return written
