from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groupwise.config.grouping import GroupingConfig
from groupwise.grouping.grouping import Grouping
from groupwise.grouping.quality import adjusted_rand

from .clusters_of import assert_same, families, semantic
from .simulated import MEMORY, Update, baseline, run

KINDS = {
    "prompt": ("prompt",),
    "domain": ("domain", "prompt"),
    "task": ("domain", "task", "prompt"),
    "clusters": ("domain", "cluster@0.5", "cluster@0.7", "prompt"),
    "first_match": ("cluster@0.8", "prompt"),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def grouping(kind: str = "clusters", **config: Any) -> Grouping:
    return Grouping(GroupingConfig.model_validate({"kind": kind, **config}), memory=MEMORY)


def nested(levels: np.ndarray) -> bool:
    pairs = [
        len(np.unique(levels[:, c : c + 2], axis=0)) == len(np.unique(levels[:, c + 1]))
        for c in range(levels.shape[1] - 1)
    ]
    return all(pairs)


@every_kind
@settings(max_examples=15)
@given(
    batches=st.lists(st.lists(st.integers(0, 20), min_size=1, max_size=20), min_size=1, max_size=4),
    seed=st.integers(0, 50),
)
def test_levels_are_nested_and_last(kind: str, batches: list[list[int]], seed: int) -> None:
    rng, groups = np.random.default_rng(seed), grouping(kind)
    vectors = rng.normal(size=(21, 4)).astype(np.float32)
    seen: dict[int, tuple[int, ...]] = {}
    for batch in batches:
        found = groups.assign(
            [f"p{i}" for i in batch], [(f"d{i % 3}", f"t{i % 5}") for i in batch], semantic(vectors[batch])
        )
        assert found.names == KINDS[kind]
        assert found.levels.shape == (len(batch), len(KINDS[kind]))
        assert found.levels.dtype == np.int64
        assert nested(found.levels)
        for i, path in zip(batch, map(tuple, found.levels.tolist()), strict=True):
            assert seen.setdefault(i, path) == path
    assert len({path[-1] for path in seen.values()}) == len(seen)  # a prompt's id is its own
    if kind in ("domain", "task", "clusters"):
        assert len({path[0] for path in seen.values()}) == len({i % 3 for i in seen})
    if kind == "task":
        assert len({path[1] for path in seen.values()}) == len({(i % 3, i % 5) for i in seen})
    everyone = [f"p{i}" for i in (*seen, 99)]
    np.testing.assert_array_equal(groups.paths(everyone), [*seen.values(), [-1] * len(KINDS[kind])])


@every_kind
def test_an_empty_update(kind: str) -> None:
    groups = grouping(kind)
    found = groups.assign([], [], semantic(np.zeros((0, 4), np.float32)))
    assert found.levels.shape == (0, len(KINDS[kind]))
    assert groups.learn(found, np.zeros(0), None, baseline) == {}
    groups.assign(["a"], [("d", "t")], semantic(np.ones((1, 4), np.float32)))
    assert groups.report() is not None


def test_families_become_clusters_of_their_domain() -> None:
    vectors, family = families(np.random.default_rng(0), 6, 90)
    keys, labels = [str(i) for i in range(90)], [(f"d{f % 2}", "t") for f in family]
    levels = grouping().assign(keys, labels, semantic(vectors)).levels
    assert len(np.unique(np.stack([levels[:, -2], family]), axis=1).T) == 6


def test_prompts_are_numbered_and_clustered_in_the_order_they_come() -> None:
    at = semantic(np.eye(3, 4, dtype=np.float32)[[0, 1, 0]])
    levels = grouping().assign(["z", "a", "z"], [("d", "t"), ("c", "t"), ("d", "t")], at).levels
    assert levels.tolist() == [[0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]]


def test_a_task_is_a_group_of_its_domain() -> None:
    labels = [("arithmetic", "sums"), ("arithmetic", "products"), ("algebra", "sums"), ("arithmetic", "sums")]
    levels = grouping("task").assign(["a", "b", "c", "d"], labels).levels
    assert nested(levels)
    assert len(np.unique(levels[:, 0])) == 2
    assert len(np.unique(levels[:, 1])) == 3  # the same name in two domains is two tasks
    assert (levels[0, :2] == levels[3, :2]).all()


def test_clusters_need_features() -> None:
    with pytest.raises(ValueError, match="grouping kind 'clusters' needs features"):
        grouping().assign(["a"], [("d", "t")])


def test_the_articles_groups_are_one_level_across_domains() -> None:
    groups = grouping("first_match")
    same = semantic(np.ones((2, 4), np.float32))
    assert groups.assign(["a", "b"], [("x", "t"), ("y", "t")], same).levels[:, 0].tolist() == [0, 0]
    assert groups.level == "learned"  # nothing takes them back


def test_paths_are_told_when_borders_move() -> None:
    moved: dict[str, list[int]] = {}
    for update in run([0.1, 0.9], 30, thresholds=[0.2], apart=0.7):
        learn = update.grouping.learn

        def spy(*args: Any, learn: Any = learn) -> dict[str, list[int]]:
            told: dict[str, list[int]] = learn(*args)
            moved.update(told)
            return told

        if "learn" not in vars(update.grouping):
            update.grouping.learn = spy  # type: ignore[method-assign]
    assert len({path[-2] for path in moved.values()}) == 2
    keys = list(moved)
    assert update.grouping.paths(keys).tolist() == list(moved.values())


def test_memory_bounds_what_is_remembered() -> None:
    groups = Grouping(GroupingConfig(kind="clusters"), memory=0)
    rng = np.random.default_rng(0)
    for start in range(0, 3000, 100):
        found = groups.assign(
            [str(i) for i in range(start, start + 100)],
            [("d", "t")] * 100,
            semantic(rng.normal(size=(100, 8)).astype(np.float32)),
        )
        groups.learn(found, np.zeros(100), None, baseline)
    assert groups.report()["groups/cluster@0.7/count"] == 16
    known = groups.paths([str(i) for i in range(3000)])[:, 0] >= 0
    assert known.sum() == known[-1024:].sum() == 1024


@every_kind
def test_limits_are_part_of_the_state(kind: str) -> None:
    live, other = Grouping(GroupingConfig.model_validate({"kind": kind}), memory=0), grouping(kind)
    rng = np.random.default_rng(0)
    for update in range(30):
        if update == 15:
            other.load_state(live.state())
        features = semantic(rng.normal(size=(100, 8)).astype(np.float32))
        keys = [str(i) for i in rng.integers(1500, size=100)]
        found = [made.assign(keys, [("d", "t")] * 100, features).levels for made in (live, other)[: 1 + (update >= 15)]]
        np.testing.assert_array_equal(found[0], found[-1])
    assert_same(live.state(), other.state())


def test_rewards_place_a_prompt_once_they_are_known() -> None:
    """Whatever came first: easy and hard prompts that mean the same end in different clusters."""
    groups = grouping(thresholds=[0.7], weights={"semantic": 0, "reward": 1, "complexity": 0})
    labels, keys = [("d", "t")] * 40, [str(i) for i in range(40)]
    for seen in (False, True, True):
        rates = np.repeat([0.1, 0.9], 20)[:, None] if seen else np.full((40, 1), np.nan)
        features = replace(semantic(np.zeros((40, 0), np.float32)), reward=rates)
        levels = groups.assign(keys, labels, features).levels
    assert len(np.unique(levels[:20, 1])) == len(np.unique(levels[20:, 1])) == 1
    assert levels[0, 1] != levels[-1, 1]


def copied(update: Update, path: Path) -> Grouping:
    """The same grouping, by way of a checkpoint's file."""
    from groupwise.run.checkpoint import load_checkpoint, save_checkpoint

    save_checkpoint(path, 1, update.grouping.state(), keep=1)
    found = load_checkpoint(path)
    assert found is not None
    other = Grouping(update.grouping._config, memory=0)
    other.load_state(found[1])
    return other


def test_resume_is_exact(tmp_path: Path) -> None:
    """A run that goes on and one that is resumed give the same groups, evidence and borders, split included."""
    options: dict[str, Any] = {"thresholds": [0.4, 0.2], "apart": 0.7}
    live = run([0.1, 0.9], 40, **options)
    for _ in range(20):
        update = next(live)
    features = semantic(np.random.default_rng(7).normal(size=(30, 16)).astype(np.float32))
    update.grouping.learn(update.groups, update.rewards, update.variances, baseline)
    copy = copied(update, tmp_path)
    for step in range(20):
        for groups in (update.grouping, copy):
            at = replace(features, embedding=features.embedding * (1 + step % 3) + step % 5)
            found = groups.assign([f"{i // (1 + step % 2)}" for i in range(30)], [("all", "t")] * 30, at)
            groups.learn(found, np.arange(30) % 2.0, np.array([0, 0.05, 0.05, 0.02, 0.1]), baseline)
    assert_same(update.grouping.state(), copy.state())
    assert update.grouping.report() == copy.report()
    assert update.grouping.reason == copy.reason


def test_diagnostics_are_numbers() -> None:
    *_, last = run([0.2, 0.8], 5, seed=1)
    found = last.grouping.diagnostics()
    assert found.keys() == {"groups/stability", "groups/silhouette"}
    assert found["groups/silhouette"] > 0.5
    assert grouping().diagnostics() == {}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"thresholds": [0.7, 0.9]}, "do not fall; the finest level comes first"),
        ({"kind": "clusters", "thresholds": []}, "at least 1 item"),
        ({"thresholds": [0.9, 0.7]}, "grouping.thresholds belongs to kind 'clusters' or 'first_match', not to 'task'"),
        ({"kind": "first_match", "adapt": False}, "grouping.adapt belongs to kind 'clusters', not to 'first_match'"),
        ({"weights": {"semantic": 0, "reward": 0, "complexity": 0}}, "grouping.weights: all are 0"),
        ({"thresholds": [1.5]}, "less than or equal to 1"),
    ],
)
def test_impossible_recipes(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GroupingConfig.model_validate(config)


def test_families_of_the_first_update_are_not_forced_together() -> None:
    rng = np.random.default_rng(0)
    centres, families = rng.normal(size=(40, 64)), np.arange(320) % 40
    groups = Grouping(GroupingConfig(kind="clusters"), memory=2**32)
    vectors = (centres[families] + 0.3 * rng.normal(size=(320, 64))).astype(np.float32)
    levels = groups.assign([str(i) for i in range(320)], [("d", "t")] * 320, semantic(vectors)).levels
    assert adjusted_rand(levels[:, -2], families) == 1
