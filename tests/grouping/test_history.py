"""The history of prompts."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groupwise.grouping.history import HALF_LIVES, History
from groupwise.types import Floats, Ints

QUICK = settings(max_examples=40, deadline=None)
Update = tuple[list[str], Ints, Floats]


@st.composite
def updates(draw: st.DrawFn) -> list[Update]:
    """keys [N], levels [N, 2] with prompt ids of the batch only, rewards [N]; prompt j is always in group j // 3."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    result = []
    for size in draw(st.lists(st.integers(0, 8), min_size=1, max_size=8)):
        prompt = rng.integers(0, 9, size)
        local = np.unique(prompt, return_inverse=True)[1] + 5
        result.append(([f"p{j}" for j in prompt], np.stack([prompt // 3, local], axis=1), rng.random(size)))
    return result


def filled(batches: list[Update], **options: Any) -> History:
    history = History(2, **options)
    for batch in batches:
        history.add(*batch)
    return history


@QUICK
@given(batches=updates(), half_life=st.sampled_from([float("inf"), 4.0, 1.0]))
def test_sums_and_counts_are_halved_every_half_life(batches: list[Update], half_life: float) -> None:
    history = filled(batches, half_lives=(half_life,))
    expected: dict[str, Floats] = {}
    for age, (keys, _, rewards) in enumerate(reversed(batches)):
        for key, reward in zip(keys, rewards, strict=True):
            expected[key] = expected.get(key, np.zeros(2)) + np.array([reward, 1]) * 0.5 ** (age / half_life)
    sums, counts, levels = history.entries([], np.zeros((0, 2), dtype=int))
    assert len(history) == len(expected) == len(sums)
    group = {key: int(key[1:]) // 3 for key in expected}
    found = sorted(zip(levels[:, 0].tolist(), sums, counts, strict=True))
    np.testing.assert_allclose(found, sorted((group[key], *expected[key]) for key in expected), rtol=1e-12)


@QUICK
@given(batches=updates())
def test_prompts_of_the_batch_have_its_path_and_absent_ones_a_prompt_of_their_own(batches: list[Update]) -> None:
    history = filled(batches[:-1])
    keys, levels, _ = batches[-1]
    levels = np.add(levels, [10, 0])  # since then the groups were given new names, here only
    sums, _, paths = history.entries(keys, levels)
    known = {key for batch in batches[:-1] for key in batch[0]}
    assert len(sums) == len(known) == len(np.unique(paths[:, 1]))
    here = {tuple(path) for key, path in zip(keys, levels.tolist(), strict=True) if key in known}
    there = {tuple(path) for path in paths.tolist() if path[1] in levels[:, 1]}
    assert there == here
    assert sorted(paths[paths[:, 0] < 10, 0]) == sorted(int(key[1:]) // 3 for key in known - set(keys))


def test_one_prompt_pinned() -> None:
    history, nowhere = History(1, half_lives=(2.0,)), np.zeros((0, 1), dtype=int)
    history.add(["a", "a"], [[0], [0]], [1.0, 0.0])
    history.add([], nowhere, [])
    history.add(["a"], [[7]], [1.0])
    sums, counts, levels = history.entries(["b"], [[0]])
    assert (sums.tolist(), counts.tolist(), levels.tolist()) == ([1.5], [2.0], [[1]])
    assert history.entries(["b", "a"], [[0], [3]])[2].tolist() == [[3]]


def test_what_has_faded_is_not_handed_out() -> None:
    history, nowhere = History(1, half_lives=(1.0,)), np.zeros((0, 1), dtype=int)
    history.add(["a"], [[0]], [1.0])
    for left in [1] * 10 + [0] * 3:
        assert len(history.entries([], nowhere)[0]) == left
        history.add([], nowhere, [])


def test_groups_that_changed_are_told() -> None:
    history = History(2)
    history.add(["a", "b"], [[0, 0], [0, 1]], [1.0, 0.0])
    history.move({"b": [4, 9], "never seen": [1, 1]})
    history.move({})
    assert history.entries([], np.zeros((0, 2), dtype=int))[2].tolist() == [[0, 0], [4, 1]]


def test_the_longest_unseen_make_room() -> None:
    history = History(1, max_prompts=3, half_lives=(np.inf,))

    def add(*keys: str) -> None:
        history.add(keys, np.arange(len(keys))[:, None], [ord(key) for key in keys])

    def known() -> str:
        return "".join(sorted(chr(int(value)) for value in history.entries([], np.zeros((0, 1), dtype=int))[0]))

    add("a", "b")
    add("c")
    assert known() == "abc"
    add("d", "a")  # a and b are the oldest, but a is here
    assert len(history) == 3
    sums, counts, _ = history.entries(["a"], [[0]])
    assert dict(zip(sums.tolist(), counts.tolist(), strict=True)) == {2.0 * ord("a"): 2.0, ord("c"): 1, ord("d"): 1}
    add("e", "f", "g", "h")  # more than there is room for
    assert known() == "efg"
    add("e", "x")
    assert len(history) == 3
    none = History(1, max_prompts=0)
    none.add(["a"], [[0]], [1.0])
    assert len(none.entries(["a"], [[0]])[0]) == 0


def learned(seed: int, walk: float = 0.0, drift: float = 0.0) -> float:
    """The half-life after 200 updates of 30 of 120 prompts, whose log-odds walk each and all drift up and down."""
    rng, history = np.random.default_rng(seed), History(1)
    log_odds = rng.normal(0, 1.5, 120)
    for _ in range(200):
        log_odds = np.clip(log_odds + rng.normal(0, walk, 120), -4, 4)
        log_odds += drift
        drift = -drift if abs(log_odds.mean()) > 2 and log_odds.mean() * drift > 0 else drift
        prompt = np.repeat(rng.choice(120, 30, replace=False), 2)
        rewards = (rng.random(60) < 1 / (1 + np.exp(-log_odds[prompt]))).astype(float)
        history.add([str(j) for j in prompt], prompt[:, None], rewards)
    return history.half_life


def test_faster_change_is_forgotten_faster_and_no_change_never() -> None:
    half_lives = {walk: np.array([learned(seed, walk=walk) for seed in range(6)]) for walk in (0.0, 0.1, 0.3, 1.0)}
    assert np.median(half_lives[0.0]) == np.inf
    assert half_lives[0.0].min() >= 64
    middle = [np.median(half_lives[walk]) for walk in (0.0, 0.1, 0.3, 1.0)]
    assert middle == sorted(middle, reverse=True)
    assert 16 <= middle[1] <= 64
    assert middle[2] <= 16
    assert middle[3] <= 4


def test_a_drift_that_all_prompts_share_is_seen_too() -> None:
    slow, fast = (np.median([learned(seed, drift=drift) for seed in range(4)]) for drift in (0.01, 0.05))
    assert fast < slow <= 64


def test_before_anything_is_known_nothing_is_forgotten() -> None:
    history = History(1)
    assert history.half_life == np.inf
    history.add(["a", "b"], [[0], [1]], [1.0, 0.0])
    assert history.half_life == np.inf
    history.add(["a", "b"], [[0], [1]], [1.0, 0.0])
    assert HALF_LIVES[0] == np.inf


@QUICK
@given(batches=updates(), after=st.integers(0, 4), most=st.sampled_from([4, 100]))
def test_resume_is_exact(batches: list[Update], after: int, most: int) -> None:
    whole, first = filled(batches, max_prompts=most), filled(batches[:after], max_prompts=most)
    second = filled(batches[:2], max_prompts=most)  # used before: all of it is replaced
    second.load_state(first.state())
    for batch in batches[after:]:
        second.add(*batch)
    assert second.state() == whole.state()
    if len(batches[-1][0]):
        for one, other in zip(second.entries(*batches[-1][:2]), whole.entries(*batches[-1][:2]), strict=True):
            assert (one == other).all()


def test_a_hundred_thousand_prompts_take_a_fraction_of_a_second() -> None:
    history, rng = History(3, max_prompts=100_000), np.random.default_rng(0)
    for start in range(0, 110_000, 10_000):
        history.add([str(start + i) for i in range(10_000)], np.zeros((10_000, 3), dtype=int), rng.random(10_000))
    keys, levels = [f"q{i}" for i in range(128)], np.zeros((128, 3), dtype=int)
    seconds = []
    for _ in range(4):
        start_time = time.process_time()
        assert len(history.entries(keys, levels)[0]) == 100_000
        history.add(keys, levels, rng.random(128))
        seconds.append(time.process_time() - start_time)
    assert min(seconds) < 0.1


def test_a_reward_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="rewards must be finite"):
        History(1).add(["a"], [[0]], [float("nan")])
