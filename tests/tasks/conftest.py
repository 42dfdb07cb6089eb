"""Scorers whose rewards fail."""

from collections.abc import Iterator

import pytest

from groupwise.tasks.scoring import Scorer

from .cases import HERE, reward

collect_ignore = ["batched_rewards.py"]  # workers import it by this name, from this folder


@pytest.fixture
def bad_rewards_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers import `bad_rewards` by this name, as they import a user's module."""
    monkeypatch.syspath_prepend(HERE)


@pytest.fixture(scope="session")
def scorer() -> Iterator[Scorer]:
    """Does what completions say, for at most half a second and with 256 MiB; shared, since failures must not matter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(HERE)
        with Scorer([], [reward(deadline=0.5)], memory=2**28) as made:
            yield made
