from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from groupwise.report.reading import read_run
from groupwise.report.sections import curves, groups
from groupwise.report.sections.groups import HEIGHT, MARGIN, MOST_NODES, WIDTH
from groupwise.report.tree import read_tree

from .fake_run import make_run
from .test_tree import group, row


def every_row(branch: dict[str, Any]) -> list[dict[str, Any]]:
    return [found for one in branch["rows"] for found in (one, *every_row(one["inside"]))]


def points(line: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in line.split())]


def test_the_tree_of_a_run_with_clusters(finished: Path) -> None:
    section = groups.build(read_run(finished))
    assert section is not None
    tree = section.context["tree"]
    assert {one["label"] for one in tree["rows"]} == {"arithmetic", "algorithmic", "logic", "cognition"}
    assert tree["rest"] == ""
    rollouts = [int(one["rollouts"].replace(",", "")) for one in tree["rows"]]
    assert rollouts == sorted(rollouts, reverse=True)
    for domain, whole in zip(tree["rows"], rollouts, strict=True):
        assert sum(int(one["rollouts"].replace(",", "")) for one in domain["inside"]["rows"]) == whole
    assert len(section.data) == len(section.context["charts"]) == 2
    json.dumps(section.data, allow_nan=False)


def test_lines_stay_in_their_frame_and_run_from_left_to_right(finished: Path) -> None:
    for one in every_row(groups.tree(read_run(finished).tree.roots)):
        line = points(one["line"])
        assert all(MARGIN <= x <= WIDTH - MARGIN and MARGIN <= y <= HEIGHT - MARGIN for x, y in line)
        assert [x for x, _ in line] == sorted({x for x, _ in line})
        assert line[-1] == one["end"]


def test_a_line_shows_the_mean_of_the_rollouts_on_the_common_scale() -> None:
    rows = [row(1, group("domain", 0, 3, 0.0, None), group("domain", 1, 1, 1.0, None))]
    rows += [row(9, group("domain", 0, 3, 1.0, None), group("domain", 1, 1, 0.5, None))]
    first, second = groups.tree(read_tree(rows).roots)["rows"]
    assert points(first["line"]) == [(MARGIN, HEIGHT - MARGIN), (WIDTH - MARGIN, MARGIN)]
    assert points(second["line"]) == [(MARGIN, MARGIN), (WIDTH - MARGIN, HEIGHT / 2)]
    assert (first["early"], first["late"], first["detail"]) == ("0.00", "1.00", "")


def test_only_the_largest_are_listed_and_the_rest_is_counted() -> None:
    many = MOST_NODES + 20
    roots = [group("cluster@0.8", i, many - i, 0.5, None) for i in range(many)]
    tree = groups.tree(read_tree([row(1, *roots, names=["cluster@0.8", "prompt"])]).roots)
    assert len(tree["rows"]) == MOST_NODES
    assert tree["rows"][0]["detail"] == "cluster@0.8 #0"
    left = sum(range(1, 21)) / sum(range(1, many + 1))
    assert tree["rest"] == f"20 smaller groups, {left * 100:.1f}\u202f% of the rollouts"


def test_a_single_child_stands_for_its_parent_but_not_for_a_domain() -> None:
    names = ["domain", "cluster@0.5", "cluster@0.7", "prompt"]
    chain = [group("domain", 0, 4, 0.5, None), group("cluster@0.5", 2, 4, 0.5, 0), group("cluster@0.7", 7, 4, 0.5, 2)]
    [domain] = groups.tree(read_tree([row(1, *chain, names=names)]).roots)["rows"]
    assert [one["detail"] for one in every_row(domain["inside"])] == ["cluster@0.7 #7"]


def test_a_domain_with_one_task_is_told_with_its_name() -> None:
    found = [
        group("domain", 0, 4, 0.5, None, label="games"), group("task", 1, 4, 0.5, 0, label="leg_counting"),
        group("domain", 2, 4, 0.5, None, label="shop"), group("task", 3, 4, 0.5, 2, label="shop"),
        group("domain", 4, 4, 0.5, None, label="algebra"), group("task", 5, 3, 0.5, 4, label="sums"),
        group("task", 6, 1, 0.5, 4, label="products"),
    ]  # fmt: skip
    rows = groups.tree(read_tree([row(1, *found, names=["domain", "task", "prompt"])]).roots)["rows"]
    assert [(one["label"], one["detail"]) for one in rows] == [
        ("games: leg_counting", ""),
        ("shop", ""),
        ("algebra", ""),
    ]
    assert [[one["label"] for one in domain["inside"]["rows"]] for domain in rows] == [[], [], ["sums", "products"]]


@pytest.mark.parametrize(
    ("kind", "levels", "charts"), [("clusters", 28, 2), ("task", 10, 2), ("domain", 4, 2), ("prompt", 0, 2)]
)
def test_each_kind_of_groups_shows_what_it_has(tmp_path: Path, kind: str, levels: int, charts: int) -> None:
    section = groups.build(read_run(make_run(tmp_path / "run", steps=12, groups=kind)))
    assert section is not None
    assert len(every_row(section.context["tree"])) == levels
    assert len(section.data) == charts


def test_an_older_run_has_no_groups(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", steps=3, groups=None))
    assert run.tree.last == {} and groups.build(run) is None


def test_what_the_groups_show_is_not_among_the_other_numbers(finished: Path) -> None:
    other = {chart.title for chart in curves.other(read_run(finished))}
    assert not {name for name in other if name.startswith(("variance/", "baseline/error/"))}
    assert "groups/share/domain" in other
