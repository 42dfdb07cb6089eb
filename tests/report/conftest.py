from __future__ import annotations

from pathlib import Path

import pytest

from groupwise.report import write_report

from .fake_run import make_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with evaluations on the way; read it, do not change it."""
    return make_run(tmp_path_factory.mktemp("runs") / "demo", steps=24, eval_every=6)


@pytest.fixture(scope="session")
def page(finished: Path) -> Path:
    """Its report."""
    return write_report(finished)
