"""Results find their place in the documentation, and nothing else there changes."""

from __future__ import annotations

from pathlib import Path

import pages
import pytest

PAGE = "# Speed\n<!-- results: a -->\nold\n<!-- end of a -->\nbetween\n<!-- results: b --><!-- end of b -->\nafter\n"


def test_a_result_replaces_what_was_there_and_nothing_else() -> None:
    once = pages.filled(PAGE, "a", "new")
    assert once == PAGE.replace("\nold\n", "\n\nnew\n\n")
    assert pages.filled(once, "a", "new") == once
    assert pages.filled(pages.filled(PAGE, "b", "x"), "a", "y") == pages.filled(pages.filled(PAGE, "a", "y"), "b", "x")


@pytest.mark.parametrize(
    "content", ["", "<!-- results: a -->", "<!-- end of a --><!-- results: a -->", PAGE + "<!-- end of a -->"]
)
def test_a_page_without_the_place_is_refused(content: str) -> None:
    with pytest.raises(ValueError, match="results: a"):
        pages.filled(content, "a", "new")


def test_backslashes_are_text() -> None:
    assert r"\1 \g<0>" in pages.filled(PAGE, "a", r"\1 \g<0>")


def test_a_file_is_filled(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    pages.fill(page, "b", "new")
    assert page.read_text() == pages.filled(PAGE, "b", "new")


def test_a_table_has_a_line_for_each_row() -> None:
    assert pages.table(["a", "b"], [[1, "x"], [2, "y"]]) == "| a | b |\n|---|---|\n| 1 | x |\n| 2 | y |"


@pytest.mark.parametrize("name", ["compare_trl", "time_to_score", "scaling"])
def test_the_page_of_speed_has_a_place_for_each_benchmark(name: str) -> None:
    assert "new" in pages.filled(pages.SPEED.read_text(), name, "new")
