from __future__ import annotations

import pytest

from groupwise.report import words


def plain(text: str) -> str:
    return text.replace(words.SPACE, " ").replace(words.MINUS, "-")


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (words.percent(0.445), "44.5 %"),
        (words.percent(0.5, 0), "50 %"),
        (words.points(0.356), "+35.6"),
        (words.points(-0.11), "-11.0"),
        (words.points(0.0), "0.0"),
        (words.points(-0.0001), "0.0"),
        (words.percent_span((0.42, 0.469)), "42.0 to 46.9"),
        (words.percent_span(None), ""),
        (words.points_span((-0.01, 0.02)), "-1.0 to +2.0"),
        (words.count(11520), "11,520"),
        (words.amount(623_810), "624 k"),
        (words.amount(1_234_567), "1.23 M"),
        (words.amount(812), "812"),
        (words.number(0), "0"),
        (words.number(2e-4), "2e-4"),
        (words.number(1.234e-10), "1.23e-10"),
        (words.number(0.6464), "0.646"),
        (words.number(1.0), "1"),
        (words.number(-12.345), "-12.3"),
        (words.number(3775.4), "3,775"),
        (words.number(2.5e7), "2.5e7"),
        (words.number(float("nan")), "?"),
        (words.duration(1.484), "1.48 s"),
        (words.duration(178), "2 min 58 s"),
        (words.duration(120), "2 min"),
        (words.duration(7384), "2 h 3 min"),
        (words.memory(961.3), "961 MiB"),
        (words.memory(1946), "1.9 GiB"),
        (words.plural(1, "update"), "1 update"),
        (words.plural(1200, "update"), "1,200 updates"),
    ],
)
def test_numbers_read_well(said: str, text: str) -> None:
    assert plain(said) == text
