from __future__ import annotations

import pytest

from groupwise.run.doing import doing, listening

Heard = list[tuple[str, int, int]]


def fail(heard: Heard) -> None:
    with listening(lambda *what: heard.append(what)):
        doing("generate", 3, 8)
        raise KeyError


def test_without_a_listener_nothing_happens() -> None:
    doing("generate", 1, 2)


def test_the_innermost_listener_hears_it_and_only_while_it_listens() -> None:
    outer: Heard = []
    inner: Heard = []
    with listening(lambda *what: outer.append(what)):
        doing("draw")
        with pytest.raises(KeyError):
            fail(inner)
        doing("score")
    doing("record")
    assert outer == [("draw", 0, 0), ("score", 0, 0)]
    assert inner == [("generate", 3, 8)]
