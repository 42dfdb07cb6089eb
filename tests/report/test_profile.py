from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from groupwise.report import profile_table, write_report
from groupwise.report.profile import rows
from groupwise.report.reading import read_run

from .fake_run import make_run
from .html import parse


def phase(seconds: float, idle: float = 0.0, inside: str | None = None, **more: float) -> dict[str, Any]:
    return {
        "inside": inside,
        "seconds": seconds,
        "seconds_per_update": seconds / 10,
        "share": seconds / 40,
        "idle_seconds": idle,
        "peak_mib": 1000.0,
        "growth_mib": 0.0,
        "calls": 10,
    } | more


def a_profile(last: int = 12) -> dict[str, Any]:
    phases = {
        "generate": phase(1.0),
        "decode": phase(19.0, inside="generate", peak_mib=1234.5, growth_mib=-20.25),
        "score": phase(4.0, idle=3.0),
        "update": phase(0.5),
        "forward": phase(5.0, inside="update", calls=45),
        "head": phase(10.0, inside="forward"),
        "other": phase(0.5),
    }
    total = phase(40.0, idle=3.0, peak_mib=1234.5, growth_mib=-20.25)
    return {"updates": {"first": 3, "last": last}, "memory": "resident", "total": total, "phases": phases}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = make_run(tmp_path / "demo", steps=12)
    (folder / "profile.json").write_text(json.dumps(a_profile()))
    return folder


def lines(profile: dict[str, Any], width: int = 80) -> list[str]:
    console = Console(width=width, record=True, color_system=None)
    with console.capture() as captured:
        console.print(profile_table(profile))
    return captured.get().splitlines()


def test_phases_stand_below_the_one_around_them_and_the_total_last() -> None:
    assert [(row.name, row.depth) for row in rows(a_profile())] == [
        ("generate", 0),
        ("decode", 1),
        ("score", 0),
        ("update", 0),
        ("forward", 1),
        ("head", 2),
        ("other", 0),
        ("total", 0),
    ]
    assert [row.idle for row in rows(a_profile())] == [0, 0, 0.75, 0, 0, 0, 0, 0.075]
    assert rows(a_profile())[4].calls == 4.5


def test_a_phase_of_no_time_is_not_idle() -> None:
    made = a_profile()
    made["phases"]["embed"] = phase(0.0)
    assert rows(made)[-2].idle == 0.0


def test_the_table_fits_a_terminal_and_says_all() -> None:
    shown = lines(a_profile())
    assert "Where updates 3 to 12 went" in shown[0]
    [decode] = [line for line in shown if "decode" in line]
    assert decode.split() == ["decode", "1.900", "47.5%", "0%", "1,234", "\u221220.2", "1"]
    [score] = [line for line in shown if "score" in line]
    assert "75%" in score
    assert "Where update 3 went" in lines(a_profile(last=3))[0]


def test_the_report_has_a_bar_for_each_phase(run: Path) -> None:
    tree = parse(write_report(run).read_text(encoding="utf-8"))
    assert "profile" in [attributes.get("id") for tag, attributes in tree.tags if tag == "section"]
    bars = {
        kind: [
            attributes["width"] for tag, attributes in tree.tags if tag == "rect" and attributes.get("class") == kind
        ]
        for kind in ("busy", "idle")
    }
    assert bars["busy"] == ["2.5%", "47.5%", "2.5%", "1.25%", "12.5%", "25.0%", "1.25%", "92.5%"]
    assert bars["idle"] == ["0.0%", "0.0%", "7.5%", "0.0%", "0.0%", "0.0%", "0.0%", "7.5%"]
    said = tree.text.replace("\u202f", " ")
    for words in ("updates 3 to 12", "47.5 %", "1.900", "1.2 GiB", "\u221220.2", "resident memory of the process"):
        assert words in said


def test_without_a_profile_there_is_no_section(page: Path) -> None:
    tree = parse(page.read_text(encoding="utf-8"))
    assert "profile" not in [attributes.get("id") for _, attributes in tree.tags]


def test_a_profile_that_cannot_be_read_is_said_and_left_out(run: Path) -> None:
    (run / "profile.json").write_text("{")
    assert "profile.json could not be read." in read_run(run).problems
    assert 'id="profile"' not in write_report(run).read_text(encoding="utf-8")
