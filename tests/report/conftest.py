from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from groupwise.report import write_report

from .fake_run import make_run

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
DESKTOP = (1280, 900)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with evaluations on the way; read it, do not change it."""
    return make_run(tmp_path_factory.mktemp("runs") / "demo", steps=24, eval_every=6)


@pytest.fixture(scope="session")
def page(finished: Path) -> Path:
    """Its report."""
    return write_report(finished)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page; at the end of the test, nothing but that file was asked for and nothing was complained about."""
    asked: list[str] = []
    complaints: list[str] = []
    contexts = []

    def route(request: Any) -> None:
        url = request.request.url
        if url.startswith(("file:", "data:")):
            request.continue_()
        else:
            asked.append(url)
            request.abort()

    def visit(path: Path, size: tuple[int, int] = DESKTOP, scheme: str = "light") -> Any:
        width, height = size
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        context.route("**/*", route)
        tab = context.new_page()
        tab.set_default_timeout(60_000)
        tab.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.goto(path.as_uri())
        return tab

    yield visit
    for context in contexts:
        context.close()
    assert asked == []
    assert complaints == []
