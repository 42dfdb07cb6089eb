"""Short is better, between two bounds."""

from hypothesis import given
from hypothesis import strategies as st

from groupwise.tasks.built_in.length import length

BOUNDS = st.tuples(st.integers(0, 500), st.integers(1, 500)).map(lambda pair: (pair[0], sum(pair)))


def rewards(lengths: list[int], target: int, most: int) -> list[float]:
    return length([[0] * n for n in lengths], max=most, target=target)


@given(BOUNDS)
def test_it_falls_from_one_to_zero(bounds: tuple[int, int]) -> None:
    target, most = bounds
    values = rewards(list(range(most + 5)), target, most)
    assert values == sorted(values, reverse=True)
    assert values[: target + 1] == [1.0] * (target + 1)
    assert values[most:] == [0.0] * 5


def test_half_way_is_a_half() -> None:
    assert rewards([15, 12], 10, 20) == [0.5, 0.8]
    assert rewards([0, 5, 10], 0, 10) == [1.0, 0.5, 0.0]
    assert rewards([], 0, 10) == []
