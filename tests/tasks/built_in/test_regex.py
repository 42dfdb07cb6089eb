"""Found or not."""

import re

import pytest

from groupwise.tasks.built_in import built_in

from .cases import prompt


@pytest.mark.parametrize(
    ("pattern", "completion", "reward"),
    [
        (r"\d+", "so 12.", 1.0),
        (r"^\d+$", "so 12", 0.0),
        ("a.b", "a\nb", 0.0),
        ("(?s)a.b", "a\nb", 1.0),
        ("", "", 1.0),
    ],
)
def test_regex(pattern: str, completion: str, reward: float) -> None:
    assert built_in("regex", {"pattern": pattern})(prompt(), completion) == reward
    assert built_in("regex", {"pattern": re.compile(pattern)})(prompt(), completion) == reward
