"""What is held out is decided by what a prompt says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupwise.tasks.hold_out import is_held_out, likeness, prompt_id

IDS = [prompt_id("family", str(i)) for i in range(20_000)]
shares = st.floats(0, 1)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.25, 1.0])
def test_the_share_is_held_out(share: float) -> None:
    found = sum(is_held_out(key, share) for key in IDS) / len(IDS)
    assert abs(found - share) <= 4 * (share * (1 - share) / len(IDS)) ** 0.5


@given(shares, shares, st.sampled_from(IDS))
def test_a_larger_share_keeps_what_a_smaller_one_did(one: float, other: float, key: str) -> None:
    assert is_held_out(key, min(one, other)) <= is_held_out(key, max(one, other))


def test_a_tenth_is_held_out_by_the_last_two_digits() -> None:
    """Models were trained under this rule: another one would show them what they are asked."""
    assert all(is_held_out(key) == (int(key[:8], 16) % 100 < 10) for key in IDS)


@given(st.text(), st.text(alphabet=" \n\t", min_size=1))
def test_case_and_white_space_make_no_difference(text: str, space: str) -> None:
    assert likeness(text) == likeness(space + text.replace(" ", space).casefold())
    assert likeness(text + "x") != likeness(text)
