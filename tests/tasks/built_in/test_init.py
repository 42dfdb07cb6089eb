"""Built-in rewards through the scorer, and what their parameters may be."""

from typing import Any

import pytest

from groupwise.config import RewardConfig
from groupwise.tasks.scoring import Scorer
from groupwise.types import UserError

from ..cases import rollouts  # noqa: TID252


def config(function: str, name: str = "r", **more: Any) -> RewardConfig:
    return RewardConfig(name=name, function=function, **more)


def test_all_of_them_in_workers() -> None:
    pytest.importorskip("math_verify")
    configs = [
        config("math", "accuracy", deadline=20),
        config("exact", "exact", params={"tags": True}),
        config("regex", "digits", params={"pattern": r"\d"}),
        config("format", "format", params={"tags": ["think", "answer"]}),
        config("language", "language", params={"language": "en"}, requires="accuracy"),
        config("length", "length", params={"max": 8, "target": 4}, requires="accuracy"),
    ]
    text = "<think>Half of it is the answer</think><answer>{}</answer>"
    batch = rollouts([text.format("0.5"), text.format("2")], answer="1/2")
    for rollout in batch:
        object.__setattr__(rollout.completion, "token_ids", (1,) * 6)
    with Scorer([], configs, workers=1) as scorer:
        scorer.score(batch)
    right = {"accuracy": 1, "exact": 0, "digits": 1, "format": 1, "language": 1, "length": 0.5}
    assert [r.rewards for r in batch] == [right, right | {"accuracy": 0, "language": 0, "length": 0}]


@pytest.mark.parametrize(
    ("function", "params", "words"),
    [
        ("math", {"tags": True}, "params.tags: math has no such parameter; it has none"),
        ("exact", {"ignorecase": True}, "params.ignorecase: exact has no such parameter; did you mean ignore_case?"),
        ("exact", {"tags": "yes"}, "params.tags: Input should be a valid boolean, not 'yes'"),
        ("regex", {}, "params.pattern: regex needs it"),
        ("regex", {"pattern": "("}, "params.pattern: Input should be a valid regular expression, not '('"),
        ("format", {"tags": "think"}, "params.tags"),
        ("language", {"language": "english"}, "params.language: Input should be 'ar', 'bn', "),
        ("length", {"target": 5}, "params.max: length needs it"),
        ("length", {"max": -3}, "params.max: Input should be greater than 0, not -3"),
        (
            "lenght",
            {},
            "function 'lenght' is not task, math, exact, regex, format, language, length or module:function",
        ),
        ("lenght", {}, "did you mean length?"),
        ("os:getcwd", {"max": 3}, "params are for the built-in rewards (math, exact, regex, format, language, length)"),
    ],
)
def test_mistakes_are_told_at_once(function: str, params: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as error:
        Scorer([], [config(function, params=params)])
    assert str(error.value).startswith("reward 'r': ") and words in str(error.value)


@pytest.mark.parametrize(
    ("function", "params", "words"),
    [
        ("length", {"max": 10, "target": 10}, "reward 'r': params.target: less than params.max, 10, not 10"),
        ("format", {"tags": []}, "reward 'r': params.tags: names without brackets, one or more"),
        ("format", {"tags": ["a", "a"]}, "each once, e.g. [think, answer], not ['a', 'a']"),
        ("format", {"tags": ["<think>"]}, "names without brackets"),
    ],
)
def test_others_when_they_are_loaded(function: str, params: dict[str, Any], words: str) -> None:
    with Scorer([], [config(function, params=params)], workers=1) as scorer, pytest.raises(UserError) as error:
        scorer.ready()
    assert words in str(error.value)


def test_a_requirement_must_come_before() -> None:
    first, second = config("exact", "a"), config("exact", "b", requires="c")
    with pytest.raises(UserError, match="reward 'b': requires 'c' is no reward before it; those before it are a"):
        Scorer([], [first, second])
    with pytest.raises(UserError, match="reward 'b': requires 'b' is no reward before it; there is none before it"):
        Scorer([], [config("exact", "b", requires="b")])
