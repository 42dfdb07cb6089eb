"""SPO's value tracker."""

from __future__ import annotations

import numpy as np
import pytest

from groupwise.grouping.tracker import Tracker


def test_a_new_prompt_is_worth_a_half_and_values_are_of_past_batches() -> None:
    tracker = Tracker()
    assert tracker.values(["a", "b", "a"]).tolist() == [0.5, 0.5, 0.5]
    tracker.add(["a", "a"], [1, 1])
    # the policy did not move: the prior, one rollout in all, is still worth .96
    np.testing.assert_allclose(tracker.values(["a", "b"]), [(0.96 * 0.5 + 2) / (0.96 + 2), 0.5])


@pytest.mark.parametrize(("moved", "rho"), [(0.0, 0.96), (0.06 * np.log2(1 / 0.9), 0.9), (0.06, 0.875), (9.0, 0.875)])
def test_the_past_is_forgotten_as_the_policy_moves(moved: float, rho: float) -> None:
    tracker = Tracker()
    tracker.moved(5.0)  # before the prompt was ever seen
    tracker.add(["a"], [1.0])
    before = 0.96 * 0.5 + 1, 0.96 + 1
    for _ in range(4):
        tracker.moved(moved / 4)
    tracker.add(["b"], [0.0])  # other prompts keep their own time
    tracker.add(["a"], [0.0])
    np.testing.assert_allclose(tracker.values(["a"]), [rho * before[0] / (rho * before[1] + 1)])


def test_it_follows_a_pass_rate_that_changes() -> None:
    rng, tracker = np.random.default_rng(0), Tracker()
    for rate in (0.2, 0.8):
        for _ in range(60):
            tracker.moved(0.1)
            tracker.add(["a"], [float(rng.random() < rate)])
        assert abs(tracker.values(["a"])[0] - rate) < 0.25  # of the last eight or so


def test_the_prompts_absent_longest_are_dropped() -> None:
    tracker = Tracker(most=2)
    tracker.add(["a", "b"], [1, 1])
    tracker.add(["a"], [1])
    tracker.add(["c"], [1])
    assert (tracker.values(["a", "b", "c"]) == 0.5).tolist() == [False, True, False]


def test_it_continues_from_its_state() -> None:
    rng = np.random.default_rng(0)
    whole, first = Tracker(most=5), Tracker(most=5)
    for step in range(20):
        keys, rewards = [f"prompt {i}" for i in rng.integers(0, 8, 6)], rng.random(6)
        if step == 10:
            state, first = first.state(), Tracker(most=5)
            first.load_state(state)
        for tracker in (whole, first):
            tracker.moved(0.01)
            tracker.add(keys, rewards)
            tracker.values(keys)
    everything = [f"prompt {i}" for i in range(8)]
    assert whole.values(everything).tolist() == first.values(everything).tolist()
    assert whole.state()["keys"] == first.state()["keys"]
