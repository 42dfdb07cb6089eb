"""Several processes stay in step, whatever happens to one of them."""

from __future__ import annotations

from functools import partial

import pytest

from groupwise.run.world import World
from groupwise.types import UserError

from .threads import in_threads


def step(world: World, broken: int) -> list[int]:
    """Work that fails in one process; all go on to save what they have, and then say what went wrong."""
    try:
        with world.together():
            if world.rank == broken:
                raise ZeroDivisionError("no judge")
    except Exception:
        assert world.gather([world.rank]) == [0, 1], "the others are in another meeting"
        raise
    return world.gather([world.rank])


@pytest.mark.parametrize("broken", [0, 1])
def test_what_fails_in_one_process_fails_in_all_and_they_stay_in_step(broken: int) -> None:
    found = in_threads(partial(step, broken=broken))
    own, other = found[broken], found[1 - broken]
    assert isinstance(own, ZeroDivisionError)
    assert isinstance(other, UserError)
    assert str(other) == f"process {broken}: ZeroDivisionError: no judge"


def test_where_nothing_fails_all_go_on() -> None:
    assert in_threads(partial(step, broken=2)) == [[0, 1], [0, 1]]


def test_one_process_alone_raises_what_it_raised() -> None:
    with pytest.raises(ZeroDivisionError), World().together():
        raise ZeroDivisionError
