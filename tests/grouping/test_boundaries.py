from __future__ import annotations

import numpy as np
import pytest

from groupwise.grouping.boundaries import CONFIRMED, CORRECTED, SCREEN, Boundaries, _halves
from groupwise.grouping.hierarchy import Hierarchy

from .clusters_of import assert_same, families
from .simulated import run

WIDE = {"thresholds": [0.2], "apart": 0.7}  # one cluster holds both families


def after(updates: int, rates: list[float], **options: object) -> dict[str, float]:
    *_, last = run(rates, updates, **options)  # type: ignore[arg-type]
    return last.grouping.report()


@pytest.mark.parametrize("seed", range(3))
def test_a_cluster_of_easy_and_hard_prompts_is_split_once(seed: int) -> None:
    report = after(50, [0.1, 0.9], seed=seed, **WIDE)
    assert report["groups/splits"] == 1
    assert report["groups/cluster@0.2/count"] == 2
    assert report["groups/explained"] > 0.2


def test_nothing_is_split_where_all_prompts_are_alike() -> None:
    reports = [after(60, [0.5, 0.5], seed=seed, prompts=32, **WIDE) for seed in range(4)]
    assert sum(report["groups/splits"] for report in reports) == 0


def test_without_adapt_nothing_moves() -> None:
    assert after(40, [0.1, 0.9], adapt=False, **WIDE)["groups/cluster@0.2/count"] == 1


def test_many_candidates_need_more_evidence() -> None:
    assert CORRECTED > 2.7 > CONFIRMED == 2.0


def judged(
    boundaries: Boundaries, updates: range, better: dict[str, float], levels: np.ndarray, vectors: np.ndarray
) -> None:
    """Updates whose squared error falls by about `better` of a change's kind; splits are those with a new id."""
    rng = np.random.default_rng(updates.start)
    variances = np.array([0.0, 0.1, 0.1, 0.1])

    def residuals(tree: np.ndarray, _: np.ndarray) -> np.ndarray:
        changed = (tree != levels).any()
        kind = "now" if not changed else "split" if (tree < 0).any() else "merge"
        return np.sqrt(np.full(len(tree), 1.0 - better.get(kind, 0.0) + 0.001 * rng.normal()))

    for update in updates:
        boundaries.judge(update, levels, slice(1, 2), vectors, variances, residuals)


def two_clusters() -> tuple[Hierarchy, np.ndarray, np.ndarray]:
    vectors, _ = families(np.random.default_rng(0), 2, 40)
    tree = Hierarchy([0.8])
    clusters = np.array([tree.assign(str(i), vector, 0) for i, vector in enumerate(vectors)])
    return tree, np.stack([np.zeros(40, int), clusters, np.arange(40)], axis=1), vectors


@pytest.mark.parametrize("better", [{"merge": 0.1}, {"split": 0.1}, {"split": 0.1, "merge": -0.1}, {"merge": -0.1}, {}])
def test_what_predicts_better_is_taken_after_two_looks(better: dict[str, float]) -> None:
    tree, levels, vectors = two_clusters()
    boundaries = Boundaries(tree)
    boundaries.propose(0, levels[:, 1], levels[:, 0])
    judged(boundaries, range(1, 2 * SCREEN), better, levels, vectors)
    assert len(tree.finest) == 2  # one update is missing
    judged(boundaries, range(2 * SCREEN, 2 * SCREEN + 1), better, levels, vectors)
    assert {kind for kind, count in boundaries.accepted.items() if count} == {k for k, v in better.items() if v > 0}


def test_what_only_the_first_look_likes_is_dropped() -> None:
    tree, levels, vectors = two_clusters()
    boundaries = Boundaries(tree)
    boundaries.propose(0, levels[:, 1], levels[:, 0])
    judged(boundaries, range(1, SCREEN + 1), {"merge": 0.1, "split": 0.1}, levels, vectors)
    judged(boundaries, range(SCREEN + 1, 4 * SCREEN), {}, levels, vectors)
    assert len(tree.finest) == 2
    assert sum(boundaries.accepted.values()) == 0
    boundaries.propose(50, levels[:, 1], levels[:, 0])
    assert boundaries.state()["active"] == []  # not at once again


def test_a_move_takes_those_who_have_come_nearer_to_the_neighbour() -> None:
    tree, levels, vectors = two_clusters()
    a, b = np.unique(levels[:, 1])
    strays = np.flatnonzero(levels[:, 1] == a)[:3]
    for i in strays:
        vectors[i] = vectors[levels[:, 1] == b][0]
        assert tree.finest.assign(str(i), vectors[i], 0) == a  # not so far that it would stray
    boundaries = Boundaries(tree)
    boundaries.propose(0, levels[:, 1], levels[:, 0])
    (move,) = (p for p in boundaries._active if p.kind == "move")
    assert sorted(np.flatnonzero(move.moves(vectors) & (levels[:, 1] == a))) == strays.tolist()
    boundaries._active = [move]
    judged(boundaries, range(1, 2 * SCREEN + 1), {"merge": 0.1}, levels, vectors)
    assert boundaries.accepted == {"split": 0, "merge": 0, "move": 1}
    assert [tree.finest.find(str(i)) for i in strays] == [b] * 3
    assert tree.finest.find(str(np.flatnonzero(levels[:, 1] == a)[5])) == a


def test_halves_are_the_families() -> None:
    vectors, family = families(np.random.default_rng(3), 2, 60)
    halves = _halves(vectors)
    assert halves is not None
    second = (vectors @ halves[1] > vectors @ halves[0]).astype(int)
    assert (second == family).all() or (second == 1 - family).all()
    assert _halves(np.ones((20, 3), np.float32)) is None


def test_resume_is_exact() -> None:
    tree, levels, vectors = two_clusters()
    live = Boundaries(tree)
    live.propose(0, levels[:, 1], levels[:, 0])
    judged(live, range(1, SCREEN + 3), {"merge": 0.1}, levels, vectors)
    other, _, _ = two_clusters()
    copy = Boundaries(other)
    copy.load_state(live.state())
    for boundaries in (live, copy):
        judged(boundaries, range(SCREEN + 3, 3 * SCREEN), {"merge": 0.1}, levels, vectors)
    assert live.accepted["merge"] == 1
    assert_same(live.state(), copy.state())
    assert_same(tree.state(), other.state())
