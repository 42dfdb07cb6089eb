"""Rows of different ages: what is recorded of each, and when they are over."""

from __future__ import annotations

import torch

from groupwise.rollout.running import Running
from groupwise.rollout.stopping import StopStrings
from groupwise.types import Sampling

from .cases import EOS, VOCABULARY, word_tokenizer

CPU = torch.device("cpu")


def running(ids: list[int], max_tokens: int = 4) -> Running:
    return Running(ids, ids, Sampling(max_tokens=max_tokens), [EOS], StopStrings((), word_tokenizer()), CPU)


def certain(*tokens: int) -> torch.Tensor:
    """Logits [B, V] by which each row draws its token."""
    return torch.full((len(tokens), VOCABULARY), -torch.inf).scatter(1, torch.tensor(tokens)[:, None], 0.0)


def test_rows_of_different_ages_are_recorded_apart() -> None:
    rows, others = running([7]), running([3, 5])
    rows.choose(certain(10))
    rows.choose(certain(11))
    others.choose(certain(20, 30))
    rows.join(others)
    assert rows.ids == [7, 3, 5]
    assert rows.newest().tolist() == [11, 20, 30]
    rows.choose(certain(12, EOS, 31))
    over = rows.over()
    assert over is not None
    assert over.tolist() == [False, True, False]
    said = rows.completions(over, 6)
    assert {i: (c.token_ids, c.text, c.finish_reason, c.policy_version) for i, c in said.items()} == {
        3: ((20, EOS), "w20", "stop", 6)
    }
    rows.keep(~over)
    rows.choose(certain(EOS, 32))
    over = rows.over()  # the first at an end token, which is its last in any case
    assert over is not None
    assert over.tolist() == [True, False]
    assert rows.completions(over, 6)[7].token_ids == (10, 11, 12, EOS)
    assert rows.completions(over, 6)[7].finish_reason == "stop"


def test_a_row_of_all_its_tokens_goes_at_once() -> None:
    rows = running([100])
    for _ in range(3):
        rows.choose(certain(10))
    others = running(list(range(9)))
    others.choose(certain(*[10] * 9))
    rows.join(others)
    assert rows.over() is None
    rows.choose(certain(*[10] * 10))
    over = rows.over()
    assert over is not None
    assert over.tolist() == [True] + [False] * 9
    assert rows.completions(over, 0)[100].finish_reason == "length"


def test_a_few_that_are_over_stay_a_while() -> None:
    rows = running(list(range(9)))
    rows.choose(certain(EOS, EOS, *[10] * 7))
    assert rows.over() is None
    rows.choose(certain(11, EOS, 12, EOS, *[10] * 5))  # what the first two draw now is not theirs any more
    over = rows.over()
    assert over is not None
    assert over.tolist() == [True, True, False, True] + [False] * 5
    assert {i: c.token_ids for i, c in rows.completions(over, 0).items()} == {0: (EOS,), 1: (EOS,), 3: (10, EOS)}
