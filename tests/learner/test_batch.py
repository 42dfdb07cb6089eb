"""Rollouts as micro-batches: every one once, in rows of bounded size, each value at its place."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from groupwise.learner.batch import micro_batches
from groupwise.types import Rollout

from .cases import CPU, rollout

rollouts = st.builds(
    rollout,
    st.lists(st.integers(1, 95), min_size=1, max_size=20),
    st.lists(st.integers(1, 95), max_size=20),
    st.floats(-2, 2, width=32),
    st.booleans(),
)


def size(r: Rollout) -> int:
    return len(r.prompt.token_ids) + len(r.completion.token_ids)


@given(st.lists(rollouts, max_size=12), st.integers(1, 200), st.booleans())
def test_each_rollout_is_in_one_row_and_the_row_says_all_of_it(
    given_rollouts: list[Rollout], budget: int, mask_cut: bool
) -> None:
    batches = micro_batches(given_rollouts, budget, CPU, mask_cut=mask_cut)
    assert sorted(i for batch in batches for i in batch.index) == list(range(len(given_rollouts)))
    for batch in batches:
        assert len(batch.input_ids) == 1 or batch.input_ids.numel() <= budget
        for row, index in enumerate(batch.index):
            r = given_rollouts[index]
            prompt, completion = list(r.prompt.token_ids), list(r.completion.token_ids)
            n = len(completion)
            assert batch.input_ids[row].tolist() == prompt + completion + [0] * (
                batch.input_ids.shape[1] - len(prompt) - n
            )
            assert batch.prompt_lengths[row] == len(prompt)
            assert batch.mask[row].tolist() == [True] * n + [False] * (batch.mask.shape[1] - n)
            assert batch.targets[row, :n].tolist() == completion
            assert torch.equal(batch.engine_logprobs[row, :n], torch.tensor(r.completion.logprobs))
            assert batch.advantages[row] == r.advantage
            masked = mask_cut and r.completion.finish_reason == "length"
            assert torch.equal(batch.learned[row], batch.mask[row] & (not masked))
            # the state before each completion token predicts it
            states = batch.predictors()[row, :n]
            assert torch.equal(batch.input_ids[row, states + 1], batch.targets[row, :n])
            assert batch.predictors().max() < batch.input_ids.shape[1]


@given(st.lists(rollouts, min_size=1, max_size=12), st.integers(1, 200))
def test_rows_come_longest_first_so_that_the_first_pass_needs_the_most_memory(
    given_rollouts: list[Rollout], budget: int
) -> None:
    batches = micro_batches(given_rollouts, budget, CPU)
    lengths = [size(given_rollouts[i]) for batch in batches for i in batch.index]
    assert lengths == sorted(lengths, reverse=True)
    assert [batch.input_ids.shape[1] for batch in batches] == [
        max(size(given_rollouts[i]) for i in batch.index) for batch in batches
    ]


def test_a_row_longer_than_the_budget_stands_alone() -> None:
    batches = micro_batches([rollout([1] * 10, [2] * 10), rollout([1], [2]), rollout([1], [2, 3])], 8, CPU)
    assert [batch.index for batch in batches] == [[0], [2, 1]]


def test_chosen_rollouts_only_and_values_of_all_of_them_padded() -> None:
    made = [rollout([1], [2] * n) for n in (3, 1, 2, 0)]
    batches = micro_batches(made, 1000, CPU, chosen=range(1, 4))
    assert [batch.index for batch in batches] == [[2, 1, 3]]
    values = [torch.full((n,), float(n)) for n in (3, 1, 2, 0)]
    assert batches[0].pad(values).tolist() == [[2.0, 2.0], [1.0, 0.0], [0.0, 0.0]]


def test_nothing_gives_nothing() -> None:
    assert micro_batches([], 100, CPU) == []
