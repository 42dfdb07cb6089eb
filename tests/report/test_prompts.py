from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from groupwise.report.reading import read_run
from groupwise.report.sections import prompts
from groupwise.report.sections.prompts import COLOURED, LONGEST_TEXT

from .fake_run import make_rollout, make_run, write_rollouts


def map_of(run: Path) -> Any:
    section = prompts.build(read_run(run))
    assert section is not None
    return section


def test_every_prompt_is_on_the_map_once(finished: Path) -> None:
    section = map_of(finished)
    points = section.data["points"]
    assert len(points) == section.context["prompts"] == 24 * 16
    assert section.context["steps"] == (1, 24) and section.context["level"] == "cluster@0.7"
    assert section.data["ends"] == [min(p["reward"] for p in points), max(p["reward"] for p in points)]
    json.dumps(section.data, allow_nan=False)


def test_the_ten_largest_clusters_have_a_colour_and_the_rest_is_counted(finished: Path) -> None:
    section = map_of(finished)
    legend, points = section.context["legend"], section.data["points"]
    sizes = [size for *_, size in legend]
    assert len(legend) == COLOURED and sizes == sorted(sizes, reverse=True)
    assert [sum(p["place"] == place for p in points) for place in range(COLOURED)] == sizes
    assert section.context["others"] == (len(points) - sum(sizes), 16 - COLOURED)
    for place, (label, number, _) in enumerate(legend):
        members = [p for p in points if p["place"] == place]
        assert {p["task"] for p in members} == {label}
        assert {p["group"] for p in members} == {f"cluster@0.7 {number}"}


def test_clusters_that_differ_lie_apart(finished: Path) -> None:
    points = [p for p in map_of(finished).data["points"] if p["place"] < 2]
    places = np.array([p["place"] for p in points])
    at = np.array([(p["x"], p["y"]) for p in points])
    centres = np.array([at[places == place].mean(axis=0) for place in (0, 1)])
    assert (np.linalg.norm(at[:, None] - centres, axis=-1).argmin(axis=1) == places).mean() > 0.95


def test_a_point_says_what_was_asked(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=1, rollouts=False, groups=None)
    rows = [
        make_rollout(
            prompt_id=str(i), prompt=f"a\n\n{'b' * 400}", reward=None if i == 2 else 0.25, path=[],
            embedding=np.array([i, i * i, 1], np.float16),
        )
        for i in range(3)
    ]  # fmt: skip
    write_rollouts(run, 1, [*rows, rows[0] | {"reward": 1.0, "embedding": None}])
    section = map_of(run)
    by_rollouts = {p["rollouts"]: p for p in section.data["points"]}
    assert by_rollouts[2]["reward"] == 0.625 and by_rollouts[0]["reward"] is None
    assert by_rollouts[1]["text"] == "a " + "b" * (LONGEST_TEXT - 2) + " \u2026"
    assert section.context["level"] == "domain"  # no row of groups names another
    assert section.context["legend"] == [("arithmetic", "", 3)]
    assert by_rollouts[1]["group"] == "domain arithmetic"


def test_prompts_in_no_cluster_have_no_colour(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=3)
    rows = [
        make_rollout(step=4, prompt_id=f"x{i}", path=[], embedding=np.full(16, i, np.float16), reward=None, dropped="x")
        for i in range(5)
    ]
    write_rollouts(run, 4, rows)
    lost = [p for p in map_of(run).data["points"] if p["step"] == 4]
    assert [(p["place"], p["group"], p["reward"]) for p in lost] == [(COLOURED, "", None)] * 5


@pytest.mark.parametrize("kind", [None, "prompt", "domain"])
def test_without_embeddings_there_is_no_map(tmp_path: Path, kind: str | None) -> None:
    assert prompts.build(read_run(make_run(tmp_path / "run", steps=3, groups=kind))) is None


def test_two_prompts_make_no_map(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=1, prompts_a_step=2)
    assert prompts.build(read_run(run)) is None
