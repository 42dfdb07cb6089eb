"""Letter by letter, but for white space and what Unicode holds to be the same."""

import pytest

from groupwise.tasks.built_in.exact import exact

from .cases import prompt


@pytest.mark.parametrize(
    ("completion", "params", "reward"),
    [
        ("New York", {}, 1.0),
        (" New\n York ", {}, 1.0),
        ("new york", {}, 0.0),
        ("new york", {"ignore_case": True}, 1.0),
        ("It is New York", {}, 0.0),
        ("It is <answer>New York</answer>.", {}, 1.0),
        ("<answer>Rome</answer> <answer>New York</answer>", {}, 1.0),
        ("<answer>New York</answer> <answer>Rome</answer>", {}, 0.0),
        ("New York", {"tags": True}, 0.0),
        ("<answer>New York</answer>", {"tags": True}, 1.0),
        ("Ｎew York", {}, 1.0),  # noqa: RUF001 - a letter of full width
        ("", {}, 0.0),
    ],
)
def test_exact(completion: str, params: dict[str, bool], reward: float) -> None:
    assert exact(prompt("New York"), completion, **params) == reward


def test_without_a_reference_it_does_not_apply() -> None:
    assert exact(prompt(), "New York") is None
    assert exact(prompt(" "), "") is None  # the empty cell of a table: silence is not the answer
