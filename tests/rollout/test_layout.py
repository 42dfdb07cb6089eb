"""Rows and the prompts they read, in every proportion."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from groupwise.rollout.layout import Layout

ROWS = st.lists(st.integers(0, 4), min_size=1, max_size=20)


def check(layout: Layout, lines: torch.Tensor, prompts: torch.Tensor) -> None:
    """Each row meets its own prompt: [B, H, R, E] there and back, with a mark of the prompt added on the way."""
    x = torch.randn(len(prompts), 2, 3, 4)
    there = layout.by_prompt(x)
    assert there.shape[:2] == (len(lines), 2)
    back = layout.by_row(there + 10 * lines[:, None, None, None], 3)
    torch.testing.assert_close(back, x + 10 * prompts[:, None, None, None])


def dense(ids: list[int]) -> torch.Tensor:
    return torch.unique(torch.tensor(ids), return_inverse=True)[1]


@given(ROWS)
def test_rows_meet_their_prompts(ids: list[int]) -> None:
    prompts = dense(ids)
    layout, lines = Layout.of(prompts)
    check(layout, lines, prompts)
    assert layout.by_prompt(torch.zeros(len(ids), 1, 1, 1)).numel() <= 2 * len(ids) + 25  # no nearly empty grids


@given(ROWS, st.data())
def test_rows_leave(ids: list[int], data: st.DataObject) -> None:
    prompts = dense(ids)
    layout, lines = Layout.of(prompts)
    for _ in range(2):
        rows = torch.tensor(sorted(data.draw(st.sets(st.integers(0, len(prompts) - 1), min_size=1))))
        layout, chosen = layout.keep(rows)
        lines, prompts = lines[chosen], prompts[rows]
        check(layout, lines, prompts)


@given(ROWS, ROWS)
def test_rows_join(ids: list[int], others: list[int]) -> None:
    (layout, lines), (other, their_lines) = Layout.of(dense(ids)), Layout.of(dense(others))
    theirs = dense(others) + len(ids)
    check(layout.join(other), torch.cat([lines, their_lines + len(ids)]), torch.cat([dense(ids), theirs]))


def test_one_large_group_takes_several_lines() -> None:
    layout, lines = Layout.of(torch.tensor([0] * 13 + [1, 2, 3]))
    assert lines.bincount().tolist() == [4, 1, 1, 1]
    assert layout.by_prompt(torch.zeros(16, 1, 1, 1)).shape == (7, 1, 4, 1)
