from __future__ import annotations

import numpy as np

from groupwise.grouping.lengths import Lengths


def test_the_mean_of_the_last_visit() -> None:
    lengths = Lengths()
    assert np.isnan(lengths.past(["a"])).all()
    lengths.add(["b", "a", "b"], [10, 3, 20])
    assert lengths.past(["a", "b"]).tolist() == [3, 15]
    lengths.add(["a"], [7])
    assert lengths.past(["a", "b"]).tolist() == [7, 15]


def test_those_absent_longest_are_forgotten_and_a_copy_goes_on_alike() -> None:
    live, copy = Lengths(most=2), Lengths(most=2)
    live.add(["a", "b"], [1, 2])
    copy.load_state(live.state())
    for lengths in (live, copy):
        lengths.add(["a"], [3])
        lengths.add(["c"], [4])
        np.testing.assert_array_equal(lengths.past(["a", "b", "c"]), [3, np.nan, 4])
    assert live.state() == copy.state()
